"""How numbers are written: the same in every table."""

import math

from sacpo_exp.method.policy import Policy
from sacpo_exp.statistics.intervals import Estimate

NOTHING, WITHHELD = "–", "withheld"


def format_estimate(estimate: Estimate, sign: str = "") -> str:
    """As "0.73 [0.62, 0.83]"; "–" where nothing was measured, "withheld" where too much is missing.

    `sign="+"` shows it for positive values too.
    """
    if estimate.n == 0:
        return NOTHING
    if math.isnan(estimate.value):
        return WITHHELD
    value, low, high = (format_number(number, f"{sign}.2f") for number in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def format_number(value: float | None, spec: str = "g") -> str:
    """`value` as `spec` says; "–" for None and NaN, and never a negative zero."""
    if value is None or math.isnan(value):
        return NOTHING
    return format(0.0 if float(format(value, spec)) == 0 else value, spec)


def shorten(text: str, width: int) -> str:
    """`text` without its middle if it is too long; both ends tell policies apart."""
    return text if len(text) <= width else f"{text[: width // 2]}…{text[width // 2 + 1 - width :]}"


def format_weights(policy: Policy) -> str:
    """q of a merge of two policies, all weights of a merge of more; "–" of others."""
    return format_number(policy.merge_ratio) if len(policy.weights) < 3 else "/".join(f"{w:g}" for w in policy.weights)
