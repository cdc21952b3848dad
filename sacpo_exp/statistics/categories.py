"""Rates by category of prompt. Pure."""

from collections.abc import Mapping, Sequence

import numpy as np

from sacpo_exp.statistics.intervals import Estimate, Resampling, Values, bootstrap_rate


def estimate_by_category(
    values: Values, categories: Sequence[str | None], resampling: Resampling
) -> dict[str, Estimate]:
    """Mean of `values`, shape (prompts,), in each category, sorted by name; prompts without one (None) count for none.

    Raises:
        ValueError: the two differ in length.
    """
    if len(values) != len(categories):
        raise ValueError(f"each value needs a category, but there are {len(values)} and {len(categories)}")
    sample = np.asarray(values, np.float64)
    names = sorted({category for category in categories if category is not None})
    members = {name: [index for index, category in enumerate(categories) if category == name] for name in names}
    return {name: bootstrap_rate(sample[rows], resampling) for name, rows in members.items()}


def find_worst_category(estimates: Mapping[str, Estimate], min_prompts: int) -> str | None:
    """The category with the lowest value among those with at least `min_prompts` prompts, or None if there is none.

    The lowest of several estimates lies on average below the lowest true value, the more so the more categories and the
    fewer prompts there are, and its interval does not know that it was chosen. `min_prompts` keeps that small.
    """
    eligible = [name for name, estimate in estimates.items() if estimate.n >= max(1, min_prompts)]
    return min(eligible, key=lambda name: (estimates[name].value, name), default=None)
