"""Scores in trackers: one run per match judged by this command, and one with the figures and the table of a report."""

from collections.abc import Sequence
from pathlib import Path

from sacpo_exp.config.schema import Interval, RatingMethod, ReportConfig
from sacpo_exp.config.tracking import TrackedRun
from sacpo_exp.method.policy import read_policy
from sacpo_exp.pipeline import Run
from sacpo_exp.plan import LINEAGE
from sacpo_exp.reporting.cohorts import Cohort
from sacpo_exp.reporting.collect import read_evaluation
from sacpo_exp.reporting.rows import COLUMNS, tracker_row
from sacpo_exp.reporting.scores import GroupScores, Settings, score_policy
from sacpo_exp.statistics.intervals import Resampling
from sacpo_exp.store import Manifest, content_hash
from sacpo_exp.tracking.runs import tracked

#: The defaults of conf/report.yaml; a report may have other intervals.
SETTINGS = Settings(Resampling(2000, 0.95, 0, Interval.percentile), 0.1, RatingMethod.bradley_terry)


def track_evaluations(run: Run, judged: Sequence[Path]) -> None:
    """Log the scores of the verdicts that this command has made."""
    tracker = run.config.tracker
    if not tracker.chosen():
        return
    made = [entry for entry in ((path, Manifest.read(path)) for path in judged) if entry[1].id in run.store.made]
    divergences = [entry for entry in run.store.manifests() if entry[1].kind == "divergence"] if made else []
    for folder, manifest in made:
        scores = score_policy(read_evaluation(run.store, (folder, manifest), divergences), SETTINGS)
        with tracked(tracker, describe_evaluation(manifest), run.config.paths.outputs) as tracking:
            numbers = {k: v for k, v in tracker_row(scores).items() if isinstance(v, int | float) and k not in COLUMNS}
            tracking.log_scores({f"eval/{name}": value for name, value in numbers.items()})
            tracking.is_complete = True


def describe_evaluation(manifest: Manifest) -> TrackedRun:
    """Return the run of one match, with its policies and its judge."""
    labels = manifest.labels
    policies = [labels["policy_id"], labels["opponent_id"]]
    columns = read_policy(labels[LINEAGE]).columns | {name: labels[name] for name in ("judge", "judge_id", "prompts")}
    config = {name: value for name, value in columns.items() if value is not None}
    tags = [labels["family"], labels["judge"], labels["prompts"], labels["model"], labels.get("dataset")]
    config |= {"opponent_id": labels["opponent_id"], "recipe": manifest.recipe, "verdicts_of": list(manifest.parents)}
    kinds = dict.fromkeys(policies, "policy")
    return TrackedRun(manifest.id, "evaluation", [str(tag) for tag in dict.fromkeys(tags) if tag], config, kinds)


def track_report(
    config: ReportConfig, scores: Sequence[GroupScores], cohorts: Sequence[Cohort], files: Sequence[Path]
) -> None:
    """Log the rows of `table.csv` and `seeds.csv` and the figures as one run, the same for the same policies."""
    means = [cohort.means for cohort in cohorts if cohort.means]
    rows = [
        {name: group.group.policies[0].labels[name] for name in ("judge", "prompts")} | tracker_row(row)
        for group in [*scores, *means]
        for row in group.policies
    ]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    ids = sorted(row.policy.id for group in scores for row in group.policies)
    tags = sorted({str(row[name]) for row in rows for name in ("model", "dataset")} - {"None"})
    run = TrackedRun(
        f"report-{content_hash(ids)[:10]}", "report", tags, {"policies": ids}, dict.fromkeys(ids, "policy")
    )
    with tracked(config.tracker, run, config.paths.outputs) as tracking:
        tracking.log_table("policies", columns, [[row.get(name) for name in columns] for row in rows])
        for path in (path for path in files if path.suffix == ".png"):
            tracking.log_figure(path.stem, path)
        tracking.is_complete = True
