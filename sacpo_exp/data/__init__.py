"""Preference data and evaluation prompts: sources, checks, views."""
