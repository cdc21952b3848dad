"""What the plans of several jobs add up to."""
