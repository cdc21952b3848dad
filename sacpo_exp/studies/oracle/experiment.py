"""Train what a configuration asks for, measure it, and report the results."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from sacpo_exp.config.studies import OracleConfig
from sacpo_exp.method.losses import LOSSES
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
from sacpo_exp.studies.oracle.trials import Data, Trial, configure_trial, list_trials
from sacpo_exp.studies.oracle.world import World, make_world

log = logging.getLogger(__name__)

#: Settings that do not change a result.
PLACES = ("paths", "tracker")


@dataclass(frozen=True)
class Results:
    """The results of an experiment.

    Attributes:
        world: with the measured base as reference policy, from which the exact policies follow.
        nominal_kl: KL(base ‖ the world's reference policy) in nats: what the base stage has not learned.
        outside: probability that the base gives to texts that are no response of the world.
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
    """Train every trial through the store, so that nothing is trained twice, and measure the policies.

    Raises:
        ConfigError: no policy of the world meets the threshold, or an override of `train` is wrong.
    """
    nominal = make_world(config.world, config.criteria)
    if config.threshold is not None:
        meet_threshold(config, nominal, config.threshold)  # fails before anything is trained
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
    """Yield every trial with its measured policies by name; log one line for each new policy."""
    data = Data(nominal, config.seed, data_folder(config))
    runs = {trial: configure_trial(config, trial, data) for trial in list_trials(config)}
    logged = set()
    for trial, run_config in runs.items():
        run = open_run(run_config)
        train_policies(run)
        found = {name: (spec.id, measure_policy(run, spec, nominal)) for name, spec in run.plan.policies.items()}
        for finding in judge(config, nominal, trial, found):
            if finding.policy not in logged:
                log.info("%s", format_finding(finding))
                logged.add(finding.policy)
        yield trial, found


def data_folder(config: OracleConfig) -> Path:
    """Return the folder for rows drawn from this world with this seed."""
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
    """Convert enums and arrays for JSON."""
    return value.value if isinstance(value, Enum) else value.tolist()


def name_trial(finding: Finding) -> str:
    """Return loss, order, rows and λ, and q of a merge."""
    trial = finding.trial
    ratio = "" if trial.ratio is None else f" q={trial.ratio:g}"
    return f"{name_setting(trial.loss, trial.order, trial.pairs, trial.multipliers)} {finding.stage}{ratio}"


def name_setting(loss: str, order: Sequence[str], pairs: int, multipliers: Sequence[float]) -> str:
    numbers = ",".join(f"{multiplier:g}" for multiplier in multipliers)
    return f"{LOSSES[loss].title} {name_order(order)} n={pairs:<6} λ={numbers:<4}"


def name_order(order: Sequence[str]) -> str:
    """`helpfulness→safety`."""
    return "→".join(order)


def format_finding(finding: Finding) -> str:
    """Return one line about a policy, with exact values in brackets."""
    exact = finding.exact.values
    worth = "  ".join(f"{name} {value:+.2f} ({exact[name]:+.2f})" for name, value in finding.trained.values.items())
    return (
        f"{name_trial(finding):<52} KL to optimum {finding.kl:.4f} of {finding.kl_start:.2f} nats  {worth}  "
        f"outside {finding.outside:.2f}"
    )


def format_results(results: Results) -> str:
    """Return one line for every policy, and the figures to compare them with."""
    findings: dict[str, Finding] = {}
    for finding in results.findings:
        findings.setdefault(finding.policy, finding)
    return "\n".join([*_explain(results), *map(format_finding, findings.values()), *_compare(results)])


def _explain(results: Results) -> Iterator[str]:
    yield (
        f"The base is {results.nominal_kl:.4f} nats from the reference policy it was trained on, and gives "
        f"{results.outside:.2%} to other texts. Optima are relative to the base."
    )
    losses = dict.fromkeys(finding.trial.loss for finding in results.findings)
    if others := [LOSSES[loss].title for loss in losses if not LOSSES[loss].is_consistent]:
        yield f"Theorem 1 does not hold for losses that are not consistent: {', '.join(others)}."
    if results.threshold is not None:
        found = results.threshold
        by_merging = "" if found["ratio"] is None else f", with the reward first by merging at q = {found['ratio']:.4f}"
        yield (
            f"E[g] ≥ {found['threshold']:g} takes λ* = {found['multiplier']:.4f}{by_merging}: "
            f"{', '.join(f'E[{name}] = {value:+.4f}' for name, value in found['values'].items())}."
        )


def _compare(results: Results) -> Iterator[str]:
    yield "Sampling error: KL to the optimum of exact fits to as many pairs, median and middle 95 % of 200 draws"
    for entry in results.sampling_error:
        yield (
            f"  {name_order(entry['order'])} {entry['stage']:<7} n={entry['pairs']:<6} "
            f"{entry['median']:.4f} [{entry['low']:.4f}, {entry['high']:.4f}]"
        )
    if results.orders:
        yield "Two orders: KL between their last policies"
    for entry in results.orders:
        one, other = entry["orders"]
        name = name_setting(entry["loss"], one, entry["pairs"], entry["multipliers"])
        yield f"  {name} and {name_order(other)} {entry['kl']:.4f} nats"
