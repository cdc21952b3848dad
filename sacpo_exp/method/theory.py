"""The theory of stepwise alignment: the strength of each stage, and exact policies over finitely many responses.

For a reward r, constraints g_i with multipliers λ_i and KL strength β the optimum is
π* ∝ π_ref · exp((r + Σ λ_i g_i)/β). Stages that each take the policy before them as reference reach it: the stage for r
with β, the stage for g_i with β/λ_i (Theorem 1), in any order (Remark 2).

A policy is an array of natural log-probabilities, shape (prompts, responses); values, of the reward or of a constraint,
have the same shape. Expectations are over prompts, all equally likely, and responses. Equations and theorems are those
of Wachi et al. 2024 (arXiv 2404.11049).
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sacpo_exp.errors import ConfigError

Table = NDArray[np.float64]
#: Relative; sums over the responses are wrong by less.
ROUNDING = 1e-12


def find_strengths(beta: float, multipliers: Mapping[str, float], order: Sequence[str]) -> list[float]:
    """The β of each stage: `beta` for the reward, β/λ for a criterion in `multipliers` (Theorem 1).

    Args:
        beta: KL strength of the whole problem.
        multipliers: λ of each constraint by the name of its criterion; the reward is not among them.
        order: names of criteria, as they are aligned.
    """
    return [beta / multipliers.get(name, 1.0) for name in order]


def merged_multiplier(ratio: float, multiplier: float) -> float:
    """λ_q = q·λ: of log-linear policies, P-SACPO with weight q has this multiplier's optimum (section 5)."""
    return ratio * multiplier


def normalise(logits: Table) -> Table:
    """The policy with these logits: each prompt's log-probabilities, whose exponentials add up to one."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    policy: Table = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return policy


def tilt(reference: Table, values: Table, beta: float) -> Table:
    """π ∝ reference · exp(values/β): the optimum of E[values] − β·KL(π ‖ reference) (equation 4)."""
    return normalise(reference + values / beta)


def tilt_stepwise(reference: Table, stages: Iterable[tuple[Table, float]]) -> Table:
    """One stage after the other: each `(values, beta)` with the policy before it as reference (Theorem 1)."""
    policy = normalise(reference)
    for values, beta in stages:
        policy = tilt(policy, values, beta)
    return policy


def merge(policies: Sequence[Table], weights: Sequence[float]) -> Table:
    """The geometric mean π ∝ Π π_i^w_i with Σ w_i = 1, which averaging weights gives for log-linear policies."""
    return normalise(np.array(sum(weight * policy for policy, weight in zip(policies, weights, strict=True))))


def expect(policy: Table, values: Table) -> float:
    """E[values] under the policy."""
    return float((np.exp(policy) * values).sum(axis=-1).mean())


def divergence(policy: Table, other: Table) -> float:
    """KL(policy ‖ other) in nats, mean over prompts."""
    return expect(policy, policy - other)


def bound_regret(policy: Table, optimum: Table, errors: Table) -> float:
    """Return a bound of J(optimum) − J(policy) = β·KL(policy ‖ optimum), with J(π) = E[values] − β·KL(π ‖ reference).

    The policy maximises J with values that are wrong by at most `errors`, which can raise its J by E[errors] under it
    and lower that of the optimum by as much under the optimum. Theorem 2 is about the same regret, by what the data
    leave unknown of reward and constraint; its text could not be read when this was written.
    """
    return expect(optimum, errors) + expect(policy, errors)


def bound_shortfall(policy: Table, optimum: Table, values: Table) -> float:
    """Return a bound of E[values] under the optimum minus that under the policy, by Pinsker's inequality."""
    ratios = policy - optimum
    # KL as Σ p·(log p/q + q/p − 1), whose terms are not negative: p·log p/q would cancel to zero for close policies.
    distances = (np.exp(policy) * (ratios + np.expm1(-ratios))).sum(axis=-1).clip(min=0)
    return float((np.ptp(values, axis=-1) * np.sqrt(distances / 2)).mean())


def solve_multiplier(reference: Table, reward: Table, constraint: Table, beta: float, threshold: float) -> float:
    """The smallest λ ≥ 0 whose optimum π ∝ reference · exp((reward + λ·constraint)/β) has E[constraint] ≥ threshold.

    It minimises the dual β·E[log Σ reference · exp((reward + λ·constraint)/β)] − λ·threshold, which is convex in λ and
    has the slope E[constraint] − threshold (section 3): that one's root, by bisection down to neighbouring floats. Of
    several constraints `reward` contains the others, each times its multiplier.

    Raises:
        ConfigError: no policy is above the threshold (Slater's condition), so that no finite λ would do.
    """
    ceiling = float(constraint.max(axis=-1).mean())
    if not threshold < ceiling - ROUNDING * np.abs(constraint).max():
        raise ConfigError(
            f"`threshold` must be below {ceiling:.4g}, what always giving the best response has on average, but "
            f"is {threshold:g}."
        )

    def slope(multiplier: float) -> float:
        return expect(tilt(reference, reward + multiplier * constraint, beta), constraint) - threshold

    if slope(0.0) >= 0:
        return 0.0
    low, high = 0.0, 1.0
    while slope(high) < 0:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:
        low, high = (low, middle) if slope(middle) >= 0 else (middle, high)
    return high
