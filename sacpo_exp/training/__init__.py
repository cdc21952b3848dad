"""Training of one stage through TRL."""
