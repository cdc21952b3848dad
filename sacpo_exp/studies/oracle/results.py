"""Compare trained policies with what the theory predicts."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sacpo_exp.config.stages import policy_of
from sacpo_exp.config.studies import OracleConfig
from sacpo_exp.method.theory import Table, bound_regret, bound_shortfall, divergence, expect, solve_multiplier
from sacpo_exp.studies.oracle.sampling import draw_wins, spread_of_fits
from sacpo_exp.studies.oracle.trials import Trial
from sacpo_exp.studies.oracle.world import World, align, merged, optimum, stages_of, weigh

#: λ on the curve of the optima, among which the nearest one is searched.
CURVE = (0.0, *np.geomspace(0.01, 100, 81).tolist())
#: Independent draws of the pairs, and the share of them inside a band.
DRAWS, SHARE = 200, 0.95

Row = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """A measured policy.

    Attributes:
        policy: log-probabilities among the world's responses, (prompts, responses).
        outside: probability of texts that are no response of the world, mean over prompts.
    """

    id: str
    policy: Table
    outside: float


def judge(config: OracleConfig, nominal: World, trial: Trial, trained: dict[str, Measured]) -> Iterator[Row]:
    """Yield a row for each stage of a trial, for its merge, or for the last policy of a method.

    The theorem is about the reference policy that training really had, so the exact policies are those of the measured
    base. Otherwise the error of the base stage would count as an error of alignment.

    Args:
        nominal: the world that the data were drawn from.
        trained: by name: `baseline`, `first`, `second`, …, `merged`.

    Yields:
        the trial's keys, and: `kl` = KL(trained ‖ exact) in nats; `kl_start`, what it began as; `kl_bound`, what it can
        be at most by the errors of each stage (`bound_regret`); `nearest`, the λ of the nearest optimum on the curve,
        and `kl_nearest`; `E[…]` and `exact E[…]` of each criterion; `violation`, how far E[g] of the first constraint
        is below the exact one, and `violation_bound` (`bound_shortfall`); `outside`, the probability of what is no
        response of the world; `policy`, the artifact's id.
    """
    world = replace(nominal, reference=trained["baseline"].policy)
    constraint = config.criteria[1]
    curve = [optimum(world, config.beta, [first, *trial.multipliers[1:]]) for first in CURVE]
    for stage, steps in _expect_steps(config, world, trial):
        exact, found = steps[-1], trained[list(trained)[-1] if stage == "method" else stage]
        names = stage_names(trial.order)[: len(steps) - 1] if len(steps) > 2 else []
        tilts = np.diff(
            [trained["baseline"].policy, *(trained[name].policy for name in names[:-1]), found.policy], axis=0
        )
        errors = tilts - np.diff(steps, axis=0)  # of what each stage has learned, relative to its own reference
        errors = np.abs(errors - errors.mean(axis=-1, keepdims=True)).sum(axis=0)
        distances = [divergence(found.policy, policy) for policy in curve]
        values, wanted = (expect_all(world, policy) for policy in (found.policy, exact))
        yield trial.keys | {
            "stage": stage,
            "kl": divergence(found.policy, exact),
            "kl_start": divergence(world.reference, exact),
            "kl_bound": bound_regret(found.policy, exact, errors),
            "nearest": CURVE[int(np.argmin(distances))],
            "kl_nearest": min(distances),
            **{f"E[{name}]": value for name, value in values.items()},
            **{f"exact E[{name}]": value for name, value in wanted.items()},
            "violation": max(0.0, wanted[constraint] - values[constraint]),
            "violation_bound": bound_shortfall(found.policy, exact, world.values[constraint]),
            "outside": found.outside,
            "policy": found.id,
        }


def _expect_steps(config: OracleConfig, world: World, trial: Trial) -> Iterator[tuple[str, list[Table]]]:
    """Yield each policy of a trial by name, with the exact policies from the reference up to it."""
    beta, multipliers, start = config.beta, trial.multipliers, world.reference
    if not trial.order:
        yield "method", [start, optimum(world, beta, multipliers)]
    elif trial.ratio is not None:
        yield "merged", [start, merged(world, beta, multipliers, trial.ratio, trial.order)]
    else:
        exact = align(world, beta, multipliers, trial.order)
        yield from ((stage, [start, *exact[:place]]) for place, stage in enumerate(stage_names(trial.order), 1))


def expect_all(world: World, policy: Table) -> dict[str, float]:
    """Return E[r] and each E[g] by criterion."""
    return {name: expect(policy, values) for name, values in world.values.items()}


def stage_names(order: Sequence[str]) -> list[str]:
    """Return `first`, `second`, …: the names of the policies that the stages of an order make."""
    return [policy_of(place) for place in range(len(order))]


def find_sampling_error(config: OracleConfig, world: World) -> list[Row]:
    """Return the KL in nats of exact fits to other draws of as many pairs, which training with DPO has on average too.

    One entry for every order, stage and number of pairs, with the median and the ends of the middle `SHARE`.
    """
    entries = []
    for order, pairs in itertools.product(config.orders, sorted(set(config.pairs))):
        exact = align(world, config.beta, config.multiplier, order)
        stages = [
            (draw_wins(world, criterion, pairs, DRAWS, config.seeds[0]), beta)
            for criterion, beta in stages_of(world, config.beta, config.multiplier, order)
        ]
        for number, stage in enumerate(stage_names(order), 1):
            median, low, high = spread_of_fits(world.reference, exact[number - 1], stages[:number], SHARE)
            entry = {"order": "→".join(order), "stage": stage, "rows": pairs}
            entries.append(entry | {"median": median, "low": low, "high": high, "share": SHARE, "draws": DRAWS})
    return entries


def meet_threshold(config: OracleConfig, world: World, threshold: float) -> Row:
    """Return λ* of the first constraint for E[g] ≥ threshold, its E, and the q that reaches it by merging.

    q is given for two criteria, with the reward first; other constraints keep their multipliers.

    Raises:
        ConfigError: no policy meets the threshold.
    """
    others = config.multiplier[1:]
    gain = world.reward + weigh(world, [0.0, *others])
    multiplier = solve_multiplier(world.reference, gain, world.values[config.criteria[1]], config.beta, threshold)
    values = expect_all(world, optimum(world, config.beta, [multiplier, *others]))
    ratio = multiplier / config.multiplier[0]
    return {"threshold": threshold, "multiplier": multiplier, "ratio": None if others or ratio > 1 else ratio} | values
