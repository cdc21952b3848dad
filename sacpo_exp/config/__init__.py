"""Typed configuration: what may be set, what is checked, how it is composed."""
