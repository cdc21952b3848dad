"""Responses of policies to prompts."""
