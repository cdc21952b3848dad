"""Scoring of model responses."""
