"""Tables, figures and examples, drawn from stored scores only."""
