"""Trackers: one run per policy with everything that is stored about it, and one with the table of a report."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sacpo_exp.config.schema import Interval, RatingMethod, ReportConfig, TrackedRun, TrackerConfig
from sacpo_exp.method.policy import Policy, read_policy
from sacpo_exp.pipeline import Run
from sacpo_exp.plan import LINEAGE
from sacpo_exp.reporting.cohorts import Cohort
from sacpo_exp.reporting.collect import Entry, read_evaluation
from sacpo_exp.reporting.lineage import read_log
from sacpo_exp.reporting.preferences import collect_preferences
from sacpo_exp.reporting.scores import COLUMNS, GroupScores, Settings, score_policy, tracker_row
from sacpo_exp.reporting.tables import spread_estimates
from sacpo_exp.statistics.intervals import Resampling
from sacpo_exp.store import Store, content_hash
from sacpo_exp.tracking.runs import COMPLETIONS, describe_policy, tracked

#: The defaults of conf/report.yaml; a report may have other intervals.
SETTINGS = Settings(Resampling(2000, 0.95, 0, Interval.percentile), 0.1, RatingMethod.bradley_terry)
#: Of the numbers of preference accuracy, those that are sent.
PREFERENCES = ("accuracy", "accuracy_conflicts", "accuracy_per_token", "margin_nats", "calibration_error")


def track_made(run: Run, objectives: Mapping[str, Mapping[str, float]] | None = None) -> None:
    """Bring the runs of the policies up to date that this command has judged, scored or compared.

    Args:
        objectives: by a policy's id the number that a sweeper optimises, by its name. It goes to the run of the sweep.
    """
    if not run.config.tracker.chosen():
        return
    kinds, store = ("judgments", "preference", "divergence"), run.store
    made = [each for _, each in store.manifests() if each.kind in kinds and each.id in store.made]
    wanted = {*(objectives or ()), *(each.labels["policy_id"] for each in made)}
    track_policies(run.config.tracker, run.config.paths.outputs, store, wanted, run.config, objectives)


def track_policies(
    config: TrackerConfig,
    outputs: str,
    store: Store,
    wanted: Collection[str] | None = None,
    settings: Any = None,
    objectives: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Send what is stored about each policy: curves, scores by every judge, preference accuracy and KL.

    A run without a server can't be added to, so each time everything is sent, also what an earlier command sent.

    Args:
        wanted: ids of policies; None: all.
        settings: configuration of this command.
        objectives: as in `track_made`.
    """
    if not config.chosen() or (wanted is not None and not wanted):
        return
    objectives = objectives or {}
    entries = sorted(store.manifests(), key=lambda entry: entry[1].created)
    divergences = [entry for entry in entries if entry[1].kind == "divergence"]
    policies: dict[str, Policy] = {}
    artifacts: dict[str, Entry] = {}
    scores: dict[str, dict[str, float]] = defaultdict(dict)
    judges: dict[str, dict[str, None]] = defaultdict(dict)
    for entry in (each for each in entries if each[1].kind in ("stage", "merge", "judgments", "preference")):
        kind, labels = entry[1].kind, entry[1].labels
        policy = read_policy(labels[LINEAGE])
        if wanted is not None and policy.id not in wanted:
            continue
        policies[policy.id] = policy
        if kind in ("stage", "merge"):
            artifacts[policy.id] = entry
        elif kind == "judgments" and labels["opponent_id"] == labels["baseline_id"]:
            row = tracker_row(score_policy(read_evaluation(store, entry, divergences), SETTINGS))
            scores[policy.id] |= _prefix(f"eval/{labels['judge']}/{labels['prompts']}", row)
            judges[policy.id][labels["judge"]] = None
    for table in collect_preferences(store, None, None, SETTINGS.resampling, wanted):
        for row in table.rows:
            cells = spread_estimates({name: row[name] for name in PREFERENCES})
            named = {f"{row['criterion']}_{name}": cell for name, cell in cells.items() if cell is not None}
            scores[str(row["policy_id"])] |= _prefix(f"eval/heldout/{row['dataset']}", named)
    sent = None if settings is None else asdict(settings)
    for policy in sorted(policies.values(), key=lambda each: each.rank):
        own, artifact, is_last = scores[policy.id], artifacts.get(policy.id), policy.id in objectives
        own |= objectives.get(policy.id, {})
        _track(config, outputs, policy, artifact, own, list(judges[policy.id]), sent, is_last)


def _track(
    config: TrackerConfig,
    outputs: str,
    policy: Policy,
    artifact: Entry | None,
    scores: Mapping[str, float],
    judges: Sequence[str],
    settings: Mapping[str, Any] | None,
    is_last: bool,
) -> None:
    """Send one policy; `is_last`: to the run of a wandb sweep, if there is one."""
    folder, manifest = artifact or (None, None)
    group, recipe, parents, metrics = config.group, policy.base.recipe, [], {}
    if manifest is not None:
        recipe, parents, metrics = manifest.recipe, manifest.parents, manifest.metrics
        chosen = [text.partition("=")[2] for text in manifest.labels["overrides"] if text.startswith("experiment=")]
        group = group or (chosen[-1] if chosen else None)
    run = replace(describe_policy(policy, recipe, parents, group, settings), is_last=is_last)
    if judges:
        run.config["judge"] = ", ".join(judges)
    with tracked(config, run, outputs) as tracking:
        if folder is not None and (rows := read_log(folder / "metrics.jsonl")):
            tracking.log_curves(rows, read_log(folder / COMPLETIONS))
        tracking.log_scores({key: value for key, value in metrics.items() if key.startswith("heldout/")} | dict(scores))
        tracking.is_complete = True


def _prefix(prefix: str, cells: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers among these cells with a prefix to their names."""
    kept = {name: cell for name, cell in cells.items() if isinstance(cell, int | float) and name not in COLUMNS}
    return {f"{prefix}/{name}": value for name, value in kept.items()}


def track_report(
    config: ReportConfig, scores: Sequence[GroupScores], cohorts: Sequence[Cohort], files: Sequence[Path]
) -> None:
    """Log the rows of `table.csv` and `seeds.csv` and the figures as one run, the same for the same policies."""
    rows = [
        {name: group.group.policies[0].labels[name] for name in ("judge", "prompts")} | tracker_row(row)
        for group in [*scores, *(cohort.means for cohort in cohorts if cohort.means)]
        for row in group.policies
    ]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    ids = sorted(row.policy.id for group in scores for row in group.policies)
    tags = sorted({str(row[name]) for row in rows for name in ("model", "dataset") if name in row})
    name, group = f"report-{content_hash(ids)[:10]}", config.tracker.group or "report"
    run = TrackedRun(name, "report", name, group, tags, {"policies": ids}, dict.fromkeys(ids, "policy"))
    with tracked(config.tracker, run, config.paths.outputs) as tracking:
        tracking.log_table("policies", columns, [[row.get(name) for name in columns] for row in rows])
        for path in files:
            if path.suffix == ".png":
                tracking.log_figure(path.stem, path)
        tracking.is_complete = True
