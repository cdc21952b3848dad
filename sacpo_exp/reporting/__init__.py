"""Tables and figures, drawn from stored scores only."""
