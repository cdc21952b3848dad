"""The number that a sweeper optimises: one score of the last policy of an evaluation."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sacpo_exp.config.schema import EvalConfig, JudgeKind
from sacpo_exp.config.stages import evaluated_criteria
from sacpo_exp.errors import ConfigError, JudgeError
from sacpo_exp.evaluation.contests import Contest
from sacpo_exp.evaluation.preferences import plan_criteria
from sacpo_exp.pipeline import Run
from sacpo_exp.reporting.collect import read_evaluation
from sacpo_exp.reporting.preferences import collect_preferences
from sacpo_exp.reporting.scores import score_policy, tracker_row
from sacpo_exp.reporting.tracking import SETTINGS
from sacpo_exp.store import Manifest

log = logging.getLogger(__name__)


def check_objective(config: EvalConfig) -> None:
    """Raise ConfigError if `objective_metric` is not measured by this evaluation."""
    names, is_planned = [each.name for each in evaluated_criteria(config)], not config.responses
    found = [f"eval/{name}/accuracy" for name in names if config.heldout_pairs and is_planned]
    if config.judge.kind != JudgeKind.none:
        found += [*(f"eval/{name}/win_rate" for name in names), "eval/refusal_rate_benign", "eval/refusal_rate_risky"]
        found += ["eval/kl_nats"] if config.generation.kl_prompts and is_planned else []
    if config.objective_metric not in (None, *found):
        raise ConfigError(f"`objective_metric` must be of {', '.join(found)}, but is {config.objective_metric}.")


def read_objective(run: Run, config: EvalConfig, contest: Contest, judged: Sequence[Path]) -> float:
    """Return `objective_metric` of the last policy of the contest, whose verdicts are among `judged`.

    Raises:
        JudgeError: it has no value, for example since too many verdicts are missing.
    """
    store, name, policy = run.store, str(config.objective_metric), contest.entrants[-1]
    match, cells = tuple(each.labels["policy_id"] for each in (policy, contest.baseline)), dict[str, Any]()
    if name.endswith("/accuracy"):
        planned = [(criterion.name, pairs.dataset.name) for criterion, pairs in plan_criteria(run, config)]
        tables = collect_preferences(store, None, None, SETTINGS.resampling, {match[0]})
        rows = [row for table in tables for row in table.rows if (row["criterion"], row["dataset"]) in planned]
        cells = {f"{row['criterion']}_accuracy": getattr(row["accuracy"], "value", None) for row in rows}
    else:
        divergences = [entry for entry in store.manifests() if entry[1].kind == "divergence"]
        for entry in ((folder, Manifest.read(folder)) for folder in judged):
            if tuple(entry[1].labels[key] for key in ("policy_id", "opponent_id")) == match:
                cells = tracker_row(score_policy(read_evaluation(store, entry, divergences), SETTINGS))
    value = cells.get(name.removeprefix("eval/").replace("/", "_"))
    if value is None:
        raise JudgeError(f"`objective_metric={name}` of {policy.name} has no value. `sacpo report` shows why.")
    log.info("objective %s of %s is %.4f", name, policy.name, value)
    return float(value)
