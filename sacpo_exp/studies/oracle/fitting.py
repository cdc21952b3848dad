"""What the pairs themselves say: the table that fits them best, without a network. Pure.

DPO with one free parameter per response is Bradley–Terry regression (Rafailov et al. 2023, section 5): its exact
solution differs from the optimum by sampling error alone, which a network trained on the same pairs has too.
"""

import numpy as np
from numpy.typing import NDArray

from sacpo_exp.method.theory import Table, tilt_stepwise
from sacpo_exp.method.theory import divergence as diverge

#: Precision of a normal prior about 0, so that a response that always won has a finite value.
RIDGE = 1e-3
STEPS = 30


def fit_values(wins: NDArray[np.float64]) -> Table:
    """Values with mean 0 that make the comparisons most probable, by Newton's method.

    Args:
        wins: how often each response was chosen over each other, (…, chosen, rejected).

    Returns:
        shape (…, responses).
    """
    games = wins + np.swapaxes(wins, -1, -2)
    values = np.zeros(wins.shape[:-1])
    identity = RIDGE * np.eye(wins.shape[-1])
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(values[..., None, :] - values[..., :, None]))
        slope = wins.sum(axis=-1) - (games * chance).sum(axis=-1) - RIDGE * values
        weight = games * chance * (1 - chance)
        hessian = weight.sum(axis=-1)[..., None] * np.eye(wins.shape[-1]) - weight + identity
        values = values + np.clip(np.linalg.solve(hessian, slope[..., None])[..., 0], -2, 2)
    centred: Table = values - values.mean(axis=-1, keepdims=True)
    return centred


def fit_policy(reference: Table, stages: list[tuple[Table, float]]) -> Table:
    """The policy after stages of `(wins, beta)`, each fitted exactly."""
    return tilt_stepwise(reference, [(fit_values(wins), beta) for wins, beta in stages])


def spread_of_fits(reference: Table, exact: Table, stages: list[tuple[Table, float]], share: float) -> list[float]:
    """KL(fit ‖ exact) in nats over independent draws of the pairs: the median, and the ends of the middle `share`.

    Args:
        stages: as `fit_policy`, with wins of shape (draws, prompts, chosen, rejected).
    """
    fits = fit_policy(reference, stages)
    found = [diverge(fit, exact) for fit in fits]
    return [float(np.quantile(found, level)) for level in (0.5, (1 - share) / 2, (1 + share) / 2)]
