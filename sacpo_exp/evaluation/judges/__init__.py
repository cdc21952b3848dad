"""Judges: who decides which of two responses is more helpful, and which is safer."""
