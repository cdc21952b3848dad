"""A tabular world in which the constrained optimum is known exactly, to check training against."""
