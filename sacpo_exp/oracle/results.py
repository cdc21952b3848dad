"""Trained policies held against what the theory says of them."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from sacpo_exp.config.oracle import OracleConfig, Order
from sacpo_exp.method.theory import Table, divergence, merge, solve_multiplier
from sacpo_exp.oracle.fitting import spread_of_fits
from sacpo_exp.oracle.measuring import Measured
from sacpo_exp.oracle.sampling import draw_wins
from sacpo_exp.oracle.trials import Trial
from sacpo_exp.oracle.world import Outcome, World, align, measure, merged, optimum, stages_of

#: Of the figures' curves: λ from 0.01 to 100.
CURVE = np.geomspace(0.01, 100, 81)
#: Independent draws of the pairs, and the share of them that a band holds.
DRAWS, SHARE = 200, 0.95


@dataclass(frozen=True)
class Finding:
    """One trained policy.

    Attributes:
        stage: `first`, `second` or `merged`.
        policy: its artifact's id.
        outside: probability of what is no response of the world.
        kl: KL(trained ‖ exact) in nats, the exact policy being that of the measured reference policy.
        kl_nominal: the same for the reference policy that the base stage was to learn.
        kl_reverse: KL(exact ‖ trained).
        kl_start: KL(reference ‖ exact), what `kl` began as.
        kl_mean: of a merge, KL(trained ‖ geometric mean of the two trained policies), which the theory takes it for.
        trained, exact: what the policies are worth.
    """

    trial: Trial
    stage: str
    policy: str
    outside: float
    kl: float
    kl_nominal: float
    kl_reverse: float
    kl_start: float
    kl_mean: float | None
    trained: Outcome
    exact: Outcome


def judge(
    config: OracleConfig, nominal: World, trial: Trial, trained: dict[str, tuple[str, Measured]]
) -> Iterator[Finding]:
    """Findings on the stages of a trial, or on its merge.

    The theorem is about the reference policy that training really had, so the exact policies are those of the measured
    base; else what the base stage has not learned of the world's reference policy would be taken for an error of
    alignment.

    Args:
        nominal: the world that the data were drawn from.
        trained: id and measured policy by name: `baseline`, `first`, `second`, `merged`.
    """
    reference = trained["baseline"][1]
    world = replace(nominal, reference=reference.policy)
    for stage in ("first", "second") if trial.ratio is None else ("merged",):
        name, found = trained[stage]
        exact, exact_nominal = (exact_policy(config, each, trial, stage) for each in (world, nominal))
        mean = None
        if trial.ratio is not None:
            mean = merge(trained["first"][1].policy, trained["second"][1].policy, trial.ratio)
        yield Finding(
            trial,
            stage,
            name,
            outside=found.outside,
            kl=divergence(found.policy, exact),
            kl_nominal=divergence(found.policy, exact_nominal),
            kl_reverse=divergence(exact, found.policy),
            kl_start=divergence(reference.policy, exact),
            kl_mean=None if mean is None else divergence(found.policy, mean),
            trained=measure(world, found.policy),
            exact=measure(world, exact),
        )


def exact_policy(config: OracleConfig, world: World, trial: Trial, stage: str) -> Table:
    """What the theory says that a stage, or a merge, of a trial ends with."""
    if trial.ratio is not None:
        return merged(world, config.beta, trial.multiplier, trial.ratio, trial.order)
    first, second = align(world, config.beta, trial.multiplier, trial.order)
    return first if stage == "first" else second


def find_sampling_error(config: OracleConfig, world: World) -> list[dict[str, Any]]:
    """KL in nats of exact fits to other draws of as many pairs: the error that no training of DPO can avoid on average.

    One entry for every order, stage and number of pairs, with the median and the ends of the middle `SHARE`.
    """
    entries = []
    for order in config.orders:
        exact = align(world, config.beta, config.multiplier, order)
        for pairs in sorted(set(config.pairs)):
            stages = [
                (draw_wins(world, criterion, pairs, DRAWS, config.seed), beta)
                for criterion, beta in stages_of(order, config.beta, config.multiplier)
            ]
            for number, stage in enumerate(("first", "second"), 1):
                median, low, high = spread_of_fits(world.reference, exact[number - 1], stages[:number], SHARE)
                entry = {"order": order.value, "stage": stage, "pairs": pairs}
                entries.append(entry | {"median": median, "low": low, "high": high, "share": SHARE, "draws": DRAWS})
    return entries


def compare_orders(second: dict[Trial, Table]) -> Iterator[dict[str, Any]]:
    """KL in nats between the second stages' policies of the two orders, which should be the same."""
    for trial, policy in second.items():
        other = replace(trial, order=Order.safety_first)
        if trial.order == Order.helpful_first and other in second:
            yield {
                "loss": trial.loss.value,
                "pairs": trial.pairs,
                "multiplier": trial.multiplier,
                "kl": divergence(policy, second[other]),
                "kl_back": divergence(second[other], policy),
            }


def draw_curves(config: OracleConfig, world: World) -> dict[str, list[dict[str, float]]]:
    """Exact outcomes of optima over λ, and of the merges of the order whose merges leave that curve, over q."""
    optima = [{"multiplier": 0.0} | asdict(measure(world, optimum(world, config.beta, 0.0)))]
    optima += [{"multiplier": float(m)} | asdict(measure(world, optimum(world, config.beta, float(m)))) for m in CURVE]
    merges = [
        {"ratio": float(q)}
        | asdict(measure(world, merged(world, config.beta, config.multiplier, float(q), Order.safety_first)))
        for q in np.linspace(0, 1, 21)
    ]
    return {"optima": optima, "safety_first_merges": merges}


def meet_threshold(config: OracleConfig, world: World, threshold: float) -> dict[str, Any]:
    """λ* for E[g] ≥ threshold, what it gives, and the q that reaches it by merging with helpfulness first.

    Raises:
        ConfigError: no policy meets the threshold.
    """
    multiplier = solve_multiplier(world.reference, world.reward, world.safety, config.beta, threshold)
    ratio = multiplier / config.multiplier
    outcome = asdict(measure(world, optimum(world, config.beta, multiplier)))
    return {"threshold": threshold, "multiplier": multiplier, "ratio": ratio if ratio <= 1 else None, **outcome}
