"""Train what a configuration asks for through the store, and measure the policies exactly."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sacpo_exp.config.studies import OracleConfig
from sacpo_exp.data.preferences import as_message, key_of
from sacpo_exp.data.tokenising import tokenise
from sacpo_exp.method.theory import Table, divergence, normalise
from sacpo_exp.pipeline import Run, locate, open_run, train_policies
from sacpo_exp.store import ArtifactSpec
from sacpo_exp.studies.oracle.results import (
    CURVE,
    Measured,
    Row,
    expect_all,
    find_sampling_error,
    judge,
    meet_threshold,
)
from sacpo_exp.studies.oracle.trials import Trial, configure_trial, list_trials
from sacpo_exp.studies.oracle.world import World, make_world, optimum
from sacpo_exp.studies.scoring import score_completions
from sacpo_exp.training.models import load_policy, load_tokenizer

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

NAME = "log_probabilities.json"
BATCH = 256


@dataclass(frozen=True)
class Results:
    """The results of an experiment.

    Attributes:
        world: with the measured base of the first seed as reference policy, from which curves and bands follow.
        nominal_kl: KL(base ‖ the world's reference policy) in nats by seed: what the base stage has not learned.
        findings, sampling_error, threshold: see `judge`, `find_sampling_error`, `meet_threshold`.
        curve: E[r] and E[g] by criterion, of the exact optima over λ of the first constraint.
    """

    world: World
    nominal_kl: dict[int, float]
    findings: list[Row]
    sampling_error: list[Row]
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
        sampling_error=find_sampling_error(config, world),
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
