"""Preference data made for this project: harmless and risky everyday questions in the PKU-SafeRLHF schema."""

from sacpo_exp.data.demo.generator import PARTS, generate_prompts, generate_rows

__all__ = ["PARTS", "generate_prompts", "generate_rows"]
