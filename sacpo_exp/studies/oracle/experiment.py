"""Train what a configuration asks for through the store, and compare the policies with what the theory predicts."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sacpo_exp.config.stages import policy_of
from sacpo_exp.config.studies import OracleConfig
from sacpo_exp.data.preferences import as_message, key_of
from sacpo_exp.data.tokenising import tokenise
from sacpo_exp.evaluation.likelihood import score_completions
from sacpo_exp.method.theory import (
    Table,
    bound_regret,
    bound_shortfall,
    divergence,
    expect,
    normalise,
    solve_multiplier,
)
from sacpo_exp.pipeline import Run, locate, open_run, train_policies
from sacpo_exp.store import ArtifactSpec
from sacpo_exp.studies.oracle.trials import Trial, configure_trial, list_trials
from sacpo_exp.studies.oracle.world import World, align, make_world, merged, optimum, weigh
from sacpo_exp.training.models import load_policy, load_tokenizer

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

NAME = "log_probabilities.json"
BATCH = 256
#: λ on the curve of the optima, among which the nearest one is searched.
CURVE = (0.0, *np.geomspace(0.01, 100, 81).tolist())

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


@dataclass(frozen=True)
class Results:
    """The results of an experiment.

    Attributes:
        world: with the measured base of the first seed as reference policy, from which curves follow.
        nominal_kl: KL(base ‖ the world's reference policy) in nats by seed: what the base stage has not learned.
        findings, threshold: see `judge`, `meet_threshold`.
        curve: E[r] and E[g] by criterion, of the exact optima over λ of the first constraint.
    """

    world: World
    nominal_kl: dict[int, float]
    findings: list[Row]
    curve: list[dict[str, float]]
    threshold: Row | None

    @property
    def frame(self) -> "pd.DataFrame":
        """A row for every policy and seed."""
        import pandas as pd

        return pd.DataFrame(self.findings)


def experiment(config: OracleConfig) -> Results:
    """Train every trial through the store, so that nothing is trained twice, and measure the policies.

    Raises:
        ConfigError: no policy of the world meets the threshold, or an override of `train` is wrong.
    """
    nominal = make_world(config.world, config.criteria)
    if config.threshold is not None:
        meet_threshold(config, nominal, config.threshold)  # fails before anything is trained
    findings: list[Row] = []
    bases: dict[int, Table] = {}
    for trial, found in train_all(config, nominal):
        findings += judge(config, nominal, trial, found)
        bases.setdefault(trial.seed, found["baseline"].policy)
    world = replace(nominal, reference=next(iter(bases.values())))
    return Results(
        world=world,
        nominal_kl={seed: divergence(base, nominal.reference) for seed, base in bases.items()},
        findings=findings,
        curve=[expect_all(world, optimum(world, config.beta, [first, *config.multiplier[1:]])) for first in CURVE],
        threshold=None if config.threshold is None else meet_threshold(config, world, config.threshold),
    )


def train_all(config: OracleConfig, nominal: World) -> Iterator[tuple[Trial, dict[str, Measured]]]:
    """Yield every trial with its measured policies by name; all are checked before the first is trained."""
    runs = [(trial, configure_trial(config, nominal, trial)) for trial in list_trials(config)]
    for number, (trial, run_config) in enumerate(runs, 1):
        kind = f"{trial.entry}, {'→'.join(trial.order) or 'method'}, {trial.pairs} rows, seed {trial.seed}"
        log.info("trial    %d of %d: %s", number, len(runs), kind)
        run = open_run(run_config)
        train_policies(run)
        yield trial, {name: measure_policy(run, spec, nominal) for name, spec in run.plan.policies.items()}


def measure_policy(run: Run, policy: ArtifactSpec, world: World) -> Measured:
    """Return the distribution of the policy in the world, computed once and stored."""
    recipe = {"prompts": list(world.prompts), "responses": list(world.responses)}
    spec = ArtifactSpec("distribution", policy.slug, recipe, (policy.id,), policy.labels)

    def build(folder: Path) -> dict[str, Any]:
        scores = score_responses(run, policy, world)
        (folder / NAME).write_text(json.dumps(scores.tolist()), "utf-8")
        return {"outside": _outside(scores)}

    run.store.get_or_build(spec, build)
    scores = np.array(json.loads((run.store.open(spec) / NAME).read_text("utf-8")))
    return Measured(policy.id, normalise(scores), _outside(scores))


def _outside(scores: Table) -> float:
    return float(1 - np.exp(scores).sum(axis=-1).mean())


def score_responses(run: Run, policy: ArtifactSpec, world: World) -> Table:
    """Return the log-probability of each response to each prompt, including the end mark of the template."""
    location, template = locate(run, policy), run.config.model.chat_template
    tokenizer = load_tokenizer(location, template)
    weights = load_policy(location, "float32")
    keys = [
        (key_of(as_message("user", prompt)), key_of(as_message("assistant", response)))
        for prompt in world.prompts
        for response in world.responses
    ]
    tokens = tokenise(tokenizer, keys)
    scores = score_completions(weights, [tokens[key] for key in keys], tokenizer.pad_token_id, BATCH)
    return np.array(scores).reshape(world.reference.shape)


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


def meet_threshold(config: OracleConfig, world: World, threshold: float) -> Row:
    """Return λ* of the first constraint for E[g] ≥ threshold, its E, and the q that reaches it by merging.

    q is given for two criteria, with the reward first; other constraints keep their multipliers.
    """
    others = config.multiplier[1:]
    gain = world.reward + weigh(world, [0.0, *others])
    multiplier = solve_multiplier(world.reference, gain, world.values[config.criteria[1]], config.beta, threshold)
    values = expect_all(world, optimum(world, config.beta, [multiplier, *others]))
    ratio = multiplier / config.multiplier[0]
    return {"threshold": threshold, "multiplier": multiplier, "ratio": None if others or ratio > 1 else ratio} | values
