"""Stepwise alignment of language models under a safety constraint (SACPO and P-SACPO, arXiv 2404.11049)."""

__version__ = "0.1.0"
