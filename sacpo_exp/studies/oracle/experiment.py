"""Train what a configuration asks for, measure it, and put down what is found."""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from sacpo_exp.config.oracle import OracleConfig
from sacpo_exp.method.theory import divergence
from sacpo_exp.pipeline import open_run, train_policies
from sacpo_exp.store import content_hash
from sacpo_exp.studies.oracle.measuring import Measured, measure_policy
from sacpo_exp.studies.oracle.results import (
    Finding,
    compare_orders,
    draw_curves,
    find_sampling_error,
    judge,
    meet_threshold,
    stage_names,
)
from sacpo_exp.studies.oracle.summary import format_finding
from sacpo_exp.studies.oracle.trials import Data, Trial, configure_trial, list_trials
from sacpo_exp.studies.oracle.world import World, make_world

log = logging.getLogger(__name__)

#: What decides nothing of a result.
PLACES = ("paths", "tracker")


@dataclass(frozen=True)
class Results:
    """Everything that was found.

    Attributes:
        world: with the measured base as reference policy; exact policies are its.
        nominal_kl: KL(base ‖ the world's reference policy) in nats: what the base stage has not learned.
        outside: probability that the base gives to what is no response of the world.
        sampling_error, orders, curves, threshold: see `oracle.results`.
    """

    world: World
    nominal_kl: float
    outside: float
    findings: list[Finding]
    sampling_error: list[dict[str, Any]]
    orders: list[dict[str, Any]]
    curves: dict[str, list[dict[str, Any]]]
    threshold: dict[str, Any] | None


def experiment(config: OracleConfig) -> Results:
    """Train every trial through the store, so that nothing is trained twice, and say what became of it.

    Raises:
        ConfigError: no policy of the world meets the threshold, or an override of `train` is wrong.
    """
    nominal = make_world(config.world, config.criteria)
    if config.threshold is not None:
        meet_threshold(config, nominal, config.threshold)  # now, before anything is trained
    trained = dict(train_all(config, nominal))
    reference = next(iter(trained.values()))["baseline"][1]
    world = replace(nominal, reference=reference.policy)
    last = {
        trial: found[stage_names(trial.order)[-1]][1].policy for trial, found in trained.items() if trial.ratio is None
    }
    return Results(
        world=world,
        nominal_kl=divergence(reference.policy, nominal.reference),
        outside=reference.outside,
        findings=[finding for trial, found in trained.items() for finding in judge(config, nominal, trial, found)],
        sampling_error=find_sampling_error(config, world),
        orders=list(compare_orders(last)),
        curves=draw_curves(config, world),
        threshold=None if config.threshold is None else meet_threshold(config, world, config.threshold),
    )


def train_all(config: OracleConfig, nominal: World) -> Iterator[tuple[Trial, dict[str, tuple[str, Measured]]]]:
    """Every trial with its policies by name, as measured; one line in the log for each that is new."""
    data = Data(nominal, config.seed, data_folder(config))
    runs = {trial: configure_trial(config, trial, data) for trial in list_trials(config)}
    said = set()
    for trial, run_config in runs.items():
        run = open_run(run_config)
        train_policies(run)
        found = {name: (spec.id, measure_policy(run, spec, nominal)) for name, spec in run.plan.policies.items()}
        for finding in judge(config, nominal, trial, found):
            if finding.policy not in said:
                log.info("%s", format_finding(finding))
                said.add(finding.policy)
        yield trial, found


def data_folder(config: OracleConfig) -> Path:
    """Where rows drawn from this world with this seed are written."""
    identity = content_hash({"world": asdict(config.world), "criteria": config.criteria, "seed": config.seed})[:10]
    return Path(config.paths.outputs) / "oracle" / "data" / identity


def write_results(config: OracleConfig, results: Results) -> list[Path]:
    """Write `results.json` and the figures into a folder of this configuration, and return their paths."""
    from sacpo_exp.studies.oracle.figures import draw_divergence, draw_trade_off

    settings = {key: value for key, value in asdict(config).items() if key not in PLACES}
    settings = json.loads(json.dumps(settings, default=_plain))
    folder = Path(config.paths.outputs) / "oracle" / content_hash(settings)[:10]
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps({"config": settings} | asdict(results), default=_plain, indent=1)
    contents = {
        "results.json": content.encode(),
        "trade_off.png": draw_trade_off(results),
        "divergence.png": draw_divergence(results),
    }
    for name, bytes_ in contents.items():
        (folder / name).write_bytes(bytes_)
    return [folder / name for name in contents]


def _plain(value: Any) -> Any:
    """Enums and arrays as JSON has them."""
    return value.value if isinstance(value, Enum) else value.tolist()
