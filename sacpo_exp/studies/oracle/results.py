"""Compare trained policies with what the theory predicts."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from sacpo_exp.config.stages import policy_of
from sacpo_exp.config.studies import OracleConfig
from sacpo_exp.method.theory import Table, divergence, merge, solve_multiplier, tilt_stepwise
from sacpo_exp.studies.oracle.measuring import Measured
from sacpo_exp.studies.oracle.sampling import draw_wins
from sacpo_exp.studies.oracle.trials import Trial
from sacpo_exp.studies.oracle.world import Outcome, World, align, measure, merged, optimum, stages_of, weigh

#: λ on the curves of the figures.
CURVE = np.geomspace(0.01, 100, 81)
#: Independent draws of the pairs, and the share of them inside a band.
DRAWS, SHARE = 200, 0.95
#: Precision of a normal prior about 0, so that a response that always won has a finite value.
RIDGE = 1e-3
STEPS = 30


@dataclass(frozen=True)
class Finding:
    """One trained policy.

    Attributes:
        stage: `first`, `second`, … or `merged`.
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
    """Yield the findings on the stages of a trial, or on its merge.

    The theorem is about the reference policy that training really had, so the exact policies are those of the measured
    base. Otherwise the error of the base stage would count as an error of alignment.

    Args:
        nominal: the world that the data were drawn from.
        trained: id and measured policy by name: `baseline`, `first`, `second`, …, `merged`.
    """
    reference = trained["baseline"][1]
    world = replace(nominal, reference=reference.policy)
    for stage in stage_names(trial.order) if trial.ratio is None else ["merged"]:
        name, found = trained[stage]
        exact, exact_nominal = (exact_policy(config, each, trial, stage) for each in (world, nominal))
        mean = None
        if trial.ratio is not None:
            mean = merge([trained[name][1].policy for name in stage_names(trial.order)], (1 - trial.ratio, trial.ratio))
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


def stage_names(order: Sequence[str]) -> list[str]:
    """Return `first`, `second`, …: the names of the policies that the stages of an order make."""
    return [policy_of(place) for place in range(len(order))]


def exact_policy(config: OracleConfig, world: World, trial: Trial, stage: str) -> Table:
    """Return the policy that a stage, or a merge, of a trial ends with according to the theory."""
    if trial.ratio is not None:
        return merged(world, config.beta, trial.multipliers, trial.ratio, trial.order)
    return align(world, config.beta, trial.multipliers, trial.order)[stage_names(trial.order).index(stage)]


def find_sampling_error(config: OracleConfig, world: World) -> list[dict[str, Any]]:
    """Return the KL in nats of exact fits to other draws of as many pairs, which training with DPO has on average too.

    One entry for every order, stage and number of pairs, with the median and the ends of the middle `SHARE`.
    """
    entries = []
    for order in config.orders:
        exact = align(world, config.beta, config.multiplier, order)
        for pairs in sorted(set(config.pairs)):
            stages = [
                (draw_wins(world, criterion, pairs, DRAWS, config.seed), beta)
                for criterion, beta in stages_of(world, config.beta, config.multiplier, order)
            ]
            for number, stage in enumerate(stage_names(order), 1):
                median, low, high = spread_of_fits(world.reference, exact[number - 1], stages[:number], SHARE)
                entry = {"order": list(order), "stage": stage, "pairs": pairs}
                entries.append(entry | {"median": median, "low": low, "high": high, "share": SHARE, "draws": DRAWS})
    return entries


def compare_orders(last: dict[Trial, Table]) -> Iterator[dict[str, Any]]:
    """Yield the KL in nats between the last policies of every two orders, which should be equal."""
    for (one, policy), (trial, other) in itertools.combinations(last.items(), 2):
        if replace(trial, order=one.order) == one:
            yield {
                "orders": [list(one.order), list(trial.order)],
                "loss": one.loss,
                "pairs": one.pairs,
                "multipliers": list(one.multipliers),
                "kl": divergence(policy, other),
                "kl_back": divergence(other, policy),
            }


def draw_curves(config: OracleConfig, world: World) -> dict[str, list[dict[str, Any]]]:
    """Return exact outcomes of optima over λ of the first constraint; of two criteria also those of merges over q.

    These are the merges of the order that begins with the constraint, which leave the curve of the optima.
    """
    optima = [
        {"multiplier": first} | asdict(measure(world, optimum(world, config.beta, [first, *config.multiplier[1:]])))
        for first in (0.0, *map(float, CURVE))
    ]
    order = config.criteria[::-1]
    merges = [
        {"ratio": float(q)} | asdict(measure(world, merged(world, config.beta, config.multiplier, float(q), order)))
        for q in np.linspace(0, 1, 21)
        if len(order) == 2
    ]
    return {"optima": optima, "merges": merges}


def meet_threshold(config: OracleConfig, world: World, threshold: float) -> dict[str, Any]:
    """Return λ* of the first constraint for E[g] ≥ threshold, its outcome, and the q that reaches it by merging.

    q is given for two criteria, with the reward first; other constraints keep their multipliers.

    Raises:
        ConfigError: no policy meets the threshold.
    """
    others = config.multiplier[1:]
    constraint = next(iter(world.constraints.values()))
    gain = world.reward + weigh(world, [0.0, *others])
    multiplier = solve_multiplier(world.reference, gain, constraint, config.beta, threshold)
    ratio = multiplier / config.multiplier[0]
    outcome = asdict(measure(world, optimum(world, config.beta, [multiplier, *others])))
    is_mergeable = ratio <= 1 and not others
    return {"threshold": threshold, "multiplier": multiplier, "ratio": ratio if is_mergeable else None, **outcome}


def fit_values(wins: Table) -> Table:
    """Return the values with mean 0 that make the comparisons most probable, by Newton's method.

    DPO with one free parameter per response is Bradley–Terry regression (Rafailov et al. 2023, section 5): its exact
    solution differs from the optimum by sampling error alone, which a network trained on the same pairs has too.

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
    """Return the policy after stages of `(wins, beta)`, each fitted exactly."""
    return tilt_stepwise(reference, [(fit_values(wins), beta) for wins, beta in stages])


def spread_of_fits(reference: Table, exact: Table, stages: list[tuple[Table, float]], share: float) -> list[float]:
    """Return KL(fit ‖ exact) in nats over independent draws of the pairs: the median and the middle `share`.

    Args:
        stages: as `fit_policy`, with wins of shape (draws, prompts, chosen, rejected).
    """
    fits = fit_policy(reference, stages)
    kls = [divergence(fit, exact) for fit in fits]
    return [float(np.quantile(kls, level)) for level in (0.5, (1 - share) / 2, (1 + share) / 2)]
