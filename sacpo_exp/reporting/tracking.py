"""Tell trackers what an evaluation has found: one run per match judged now, named by the id of its verdicts."""

from collections.abc import Sequence
from pathlib import Path

from sacpo_exp.config.schema import Interval, RatingMethod
from sacpo_exp.config.tracking import TrackedRun
from sacpo_exp.method.policy import read_policy
from sacpo_exp.pipeline import Run
from sacpo_exp.plan import LINEAGE
from sacpo_exp.reporting.collect import read_evaluation
from sacpo_exp.reporting.scores import Settings, score_policy
from sacpo_exp.reporting.summary import name_scores
from sacpo_exp.statistics.intervals import Resampling
from sacpo_exp.store import Manifest
from sacpo_exp.tracking.runs import tracked

#: As conf/report.yaml has it; a report may say it with other intervals.
SETTINGS = Settings(Resampling(2000, 0.95, 0, Interval.percentile), 0.1, RatingMethod.bradley_terry)


def track_evaluations(run: Run, judged: Sequence[Path]) -> None:
    """Log the scores of the verdicts that this command has made; those found in the store have been told before."""
    tracker = run.config.tracker
    if not tracker.chosen():
        return
    made = [entry for entry in ((path, Manifest.read(path)) for path in judged) if entry[1].id in run.store.made]
    divergences = [entry for entry in run.store.manifests() if entry[1].kind == "divergence"] if made else []
    for folder, manifest in made:
        scores = name_scores(score_policy(read_evaluation(run.store, (folder, manifest), divergences), SETTINGS))
        with tracked(tracker, describe_evaluation(manifest), run.config.paths.outputs) as tracking:
            tracking.log_scores({f"eval/{name}": value for name, value in scores.items()})
            tracking.is_complete = True


def describe_evaluation(manifest: Manifest) -> TrackedRun:
    """The run of one match: who met whom before which judge."""
    labels = manifest.labels
    policies = [labels["policy_id"], labels["opponent_id"]]
    columns = read_policy(labels[LINEAGE]).columns | {name: labels[name] for name in ("judge", "judge_id", "prompts")}
    config = {name: value for name, value in columns.items() if value is not None}
    tags = [labels["family"], labels["judge"], labels["prompts"], labels["model"], labels.get("dataset")]
    config |= {"opponent_id": labels["opponent_id"], "recipe": manifest.recipe, "verdicts_of": list(manifest.parents)}
    kinds = dict.fromkeys(policies, "policy")
    return TrackedRun(manifest.id, "evaluation", [str(tag) for tag in dict.fromkeys(tags) if tag], config, kinds)
