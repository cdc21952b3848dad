"""Rates, intervals, ratings and selection, from verdicts; pure."""

from enum import Enum


class Interval(Enum):
    """How a bootstrap distribution is made an interval (Efron & Tibshirani 1993, chapters 13 and 14)."""

    percentile = "percentile"
    bca = "bca"  # corrected for bias and skewness
