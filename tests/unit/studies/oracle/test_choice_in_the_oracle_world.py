"""The chosen q against the exact one: policies, merges and λ* are known, only the judgments are drawn."""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binomtest

from sacpo_exp.config.studies import WorldConfig
from sacpo_exp.method.theory import Table, expect, merged_multiplier, solve_multiplier
from sacpo_exp.statistics.selection import Outcome, certify_in_sequence, find_p_value, pick_best
from sacpo_exp.studies.oracle.world import World, chance_of, make_world, merged

CRITERIA = ("helpfulness", "safety")
BETA, MULTIPLIERS = 1.0, [2.0]
GRID = np.linspace(1, 0, 21)  # from the safe end
LEVEL = 0.05
WORLDS = 400
#: Halfway between two entries of the grid, so that λ* itself is not among them.
EXACT_RATIO = 0.525


@dataclass(frozen=True)
class Family:
    """Merged policies in a world, what is judged safe, and the threshold whose exact answer is `ratio`.

    Attributes:
        chances: cumulative, (policies, prompts, responses).
        safety: of a response, in [0, 1]; where a judge says yes or no, the chance of yes.
    """

    chances: NDArray[np.float64]
    reward: Table
    safety: Table
    threshold: float
    ratio: float
    outcome: Outcome


def make_family(outcome: Outcome) -> Family:
    world = make_world(WorldConfig(prompts=300, responses=8, scale=1.5, correlation=-0.5, spread=1.0, seed=0), CRITERIA)
    policies = np.array([merged(world, BETA, MULTIPLIERS, ratio, CRITERIA) for ratio in GRID])
    safety = _judge(world, outcome)
    threshold = expect(merged(world, BETA, MULTIPLIERS, EXACT_RATIO, CRITERIA), safety)
    ratio = brentq(lambda q: expect(merged(world, BETA, MULTIPLIERS, q, CRITERIA), safety) - threshold, 0, 1)
    return Family(np.cumsum(np.exp(policies), axis=-1), world.reward, safety, threshold, ratio, outcome)


def _judge(world: World, outcome: Outcome) -> Table:
    """g by its bounds, or the chance that a judge says "safe"."""
    safety = world.values["safety"]
    if outcome == Outcome.yes_no:
        return chance_of(safety)
    bounded: Table = (safety - safety.min()) / (safety.max() - safety.min())
    return bounded


def choose_ratio(family: Family, n: int, random: np.random.Generator) -> float | None:
    """q of the most helpful certified policy, judged on n prompts drawn from the world's."""
    prompts, luck = random.integers(0, len(family.reward), n), random.random((2, n))
    said = (family.chances[:, prompts] < luck[0][None, :, None]).sum(axis=-1).clip(max=family.reward.shape[1] - 1)
    safety = family.safety[prompts, said]
    values = (luck[1] < safety).astype(float) if family.outcome == Outcome.yes_no else safety
    p_values = (find_p_value(row, family.threshold, LEVEL, family.outcome) for row in values)
    certified = [place for place, is_certified in enumerate(certify_in_sequence(p_values, LEVEL)) if is_certified]
    if not certified:
        return None
    return float(GRID[certified[pick_best([family.reward[prompts, said[place]] for place in certified])]])


def test_the_threshold_belongs_to_the_exact_multiplier() -> None:
    world = make_world(WorldConfig(prompts=300, responses=8, scale=1.5, correlation=-0.5, spread=1.0, seed=0), CRITERIA)
    threshold = expect(merged(world, BETA, MULTIPLIERS, EXACT_RATIO, CRITERIA), world.values["safety"])
    exact = solve_multiplier(world.reference, world.reward, world.values["safety"], BETA, threshold)
    assert exact == pytest.approx(merged_multiplier(EXACT_RATIO, MULTIPLIERS[0]))
    assert make_family(Outcome.bounded).ratio == pytest.approx(EXACT_RATIO)


@pytest.mark.slow
@pytest.mark.parametrize("outcome", [Outcome.yes_no, Outcome.bounded])
def test_the_chosen_ratio_nears_the_exact_one_from_the_safe_side(outcome: Outcome) -> None:
    family, random = make_family(outcome), np.random.default_rng(0)
    above: list[float] = []
    for n in (50, 200, 800, 3200):
        chosen = [choose_ratio(family, n, random) for _ in range(WORLDS)]
        found = np.array([ratio for ratio in chosen if ratio is not None])
        violations = int((found < family.ratio).sum())
        above.append(float(np.mean(found - family.ratio)))
        shares = [1 - len(found) / WORLDS, found.mean(), above[-1], violations / WORLDS]
        print(f"| {outcome.value} | {n} | {' | '.join(f'{share:.3f}' for share in shares)} |")
        assert binomtest(violations, WORLDS, LEVEL, alternative="greater").pvalue > 0.01
    assert above == sorted(above, reverse=True)
    assert above[-1] < 0.1
