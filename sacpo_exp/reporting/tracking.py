"""Scores in trackers: one run per match judged by this command, and one with the figures and the table of a report."""

from collections.abc import Sequence
from pathlib import Path

from sacpo_exp.config.schema import Interval, RatingMethod, ReportConfig, TrackedRun
from sacpo_exp.method.policy import read_policy
from sacpo_exp.pipeline import Run
from sacpo_exp.plan import LINEAGE
from sacpo_exp.reporting.cohorts import Cohort
from sacpo_exp.reporting.collect import read_evaluation
from sacpo_exp.reporting.scores import COLUMNS, GroupScores, Settings, score_policy, tracker_row
from sacpo_exp.statistics.intervals import Resampling
from sacpo_exp.store import Manifest, content_hash
from sacpo_exp.tracking.runs import tracked

#: The defaults of conf/report.yaml; a report may have other intervals.
SETTINGS = Settings(Resampling(2000, 0.95, 0, Interval.percentile), 0.1, RatingMethod.bradley_terry)


def track_evaluations(run: Run, judged: Sequence[Path]) -> None:
    """Log the scores of the verdicts that this command has made, as one run for each match."""
    tracker = run.config.tracker
    if not tracker.chosen():
        return
    made = [entry for entry in ((path, Manifest.read(path)) for path in judged) if entry[1].id in run.store.made]
    divergences = [entry for entry in run.store.manifests() if entry[1].kind == "divergence"] if made else []
    for folder, manifest in made:
        row = tracker_row(score_policy(read_evaluation(run.store, (folder, manifest), divergences), SETTINGS))
        numbers = {name: value for name, value in row.items() if isinstance(value, int | float) and name not in COLUMNS}
        with tracked(tracker, _describe(manifest), run.config.paths.outputs) as tracking:
            tracking.log_scores({f"eval/{name}": value for name, value in numbers.items()})
            tracking.is_complete = True


def _describe(manifest: Manifest) -> TrackedRun:
    """Return the run of one match, with its policies and its judge."""
    labels = manifest.labels
    columns = read_policy(labels[LINEAGE]).columns | {name: labels[name] for name in ("judge", "judge_id", "prompts")}
    config = {name: value for name, value in columns.items() if value is not None}
    config |= {"opponent_id": labels["opponent_id"], "recipe": manifest.recipe, "verdicts_of": list(manifest.parents)}
    tags = dict.fromkeys(labels.get(name) for name in ("family", "judge", "prompts", "model", "dataset"))
    kinds = dict.fromkeys((labels["policy_id"], labels["opponent_id"]), "policy")
    return TrackedRun(manifest.id, "evaluation", [str(tag) for tag in tags if tag], config, kinds)


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
    name = f"report-{content_hash(ids)[:10]}"
    run = TrackedRun(name, "report", tags, {"policies": ids}, dict.fromkeys(ids, "policy"))
    with tracked(config.tracker, run, config.paths.outputs) as tracking:
        tracking.log_table("policies", columns, [[row.get(name) for name in columns] for row in rows])
        for path in files:
            if path.suffix == ".png":
                tracking.log_figure(path.stem, path)
        tracking.is_complete = True
