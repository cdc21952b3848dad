"""A store that is filled as `train` and `eval` fill it, with judgments made by hand."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiny import write_lines

from sacpo_exp.config.loading import shipped_criteria
from sacpo_exp.config.schema import Interval, PathsConfig, RatingMethod, ReportConfig
from sacpo_exp.evaluation.contests import imported_artifact
from sacpo_exp.evaluation.responding import policy_labels
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.method.policy import Aligned, Base, Merged, Policy, Stage
from sacpo_exp.plan import LINEAGE, Fingerprints, Plan, make_plan, policy_of_spec
from sacpo_exp.report import report
from sacpo_exp.reporting.cohorts import Cohort, score_cohorts
from sacpo_exp.reporting.collect import collect_groups
from sacpo_exp.reporting.scores import GroupScores, Settings, score_group
from sacpo_exp.statistics.intervals import Resampling
from sacpo_exp.store import ArtifactSpec, Store

KINDS = ["benign"] * 4 + ["risky"] * 4
HELPFULNESS, SAFETY = (shipped_criteria()[name] for name in ("helpfulness", "safety"))
#: Of a user, and counts on every prompt.
HONESTY = Criterion("honesty", "T", "more_honest_id")
LETTERS = {criterion.name: criterion.letter for criterion in (HELPFULNESS, SAFETY, HONESTY)}
Verdicts = Sequence[float | None]
#: Loss, criterion and β of a stage.
Trained = tuple[str, str | None, float | None]
#: Stages that many tests have.
H, HS = ("dpo", "helpfulness", 0.1), (("dpo", "helpfulness", 0.1), ("dpo", "safety", 0.05))


class World:
    """A store that is filled as `train` and `eval` fill it, with everything judged by `criteria`."""

    def __init__(self, outputs: Path, criteria: Sequence[Criterion] = (HELPFULNESS, SAFETY)) -> None:
        self.outputs, self.store, self.seconds, self.criteria = outputs, Store(outputs / "store"), 0, criteria
        self.folder = outputs / "report"
        self.judge = self.make(ArtifactSpec("scorer", "scorer", {}, (), {}), {}, _judge_metrics())
        spec = ArtifactSpec("model", "nano", {"source": "scratch"}, (), {})
        self.model = self.keep(spec, Base(spec.id, "nano", spec.recipe))
        self.baseline = self.train(("sft", None, None))

    def make(
        self, spec: ArtifactSpec, files: dict[str, list[Any]], metrics: dict[str, Any] | None = None
    ) -> ArtifactSpec:
        """Store an artifact with these files of JSON lines."""

        def build(folder: Path) -> dict[str, Any]:
            for name, records in files.items():
                write_lines(folder / name, records)
            return metrics or {}

        self.store.get_or_build(spec, build)
        return spec

    def keep(self, spec: ArtifactSpec, policy: Policy) -> ArtifactSpec:
        """Store a policy with its lineage."""
        return self.make(replace(spec, labels={LINEAGE: policy.to_dict()}), {})

    def train(self, *stages: Trained, seed: int = 0, dataset: str = "demo", **recipe: Any) -> ArtifactSpec:
        """The policy that stages (loss, criterion, β) make of the baseline; the settings are those of every stage."""
        parent = self.baseline if stages[0][1] else self.model
        for loss, criterion, beta in stages:
            own = {"loss": {"name": loss}, "criterion": criterion, "beta": beta, "seed": seed, "adapter": ""}
            letter = LETTERS[criterion] if criterion else ""
            step = Stage(own | recipe, {"rows": dataset}, letter, dataset)
            spec = ArtifactSpec("stage", f"{loss}{letter}.{beta}".lower(), step.recipe, (parent.id,), {})
            parent = self.keep(spec, Aligned(spec.id, policy_of_spec(parent), step))
        return parent

    def merge(self, weights: float | tuple[float, ...], *policies: ArtifactSpec) -> ArtifactSpec:
        """The average of policies; one number is the weight of the second of two."""
        mix = weights if isinstance(weights, tuple) else (1 - weights, weights)
        parents = tuple(policy.id for policy in policies)
        spec = ArtifactSpec("merge", f"{policies[-1].slug}.merged", {"weights": list(mix)}, parents, {})
        return self.keep(spec, Merged(spec.id, tuple(map(policy_of_spec, policies)), mix))

    def elsewhere(self, name: str) -> ArtifactSpec:
        """A policy whose responses were made elsewhere."""
        return imported_artifact(name, [name])

    def judgments(self, policy: ArtifactSpec, records: list[dict[str, Any]], **labels: Any) -> None:
        labels = self.labels(policy) | labels
        spec = ArtifactSpec("judgments", policy.slug, labels, (policy.id,), labels)
        made = self.make(spec, {"verdicts.jsonl": records})
        # Seconds apart, as evaluations are, rather than all within the one that a test takes.
        self.seconds += 1
        manifest = replace(self.store.manifest(made), created=f"2026-01-01T00:00:{self.seconds:02}+00:00")
        manifest.write(self.store.path(made))

    def divergence(self, policy: ArtifactSpec, samples: list[tuple[str, float]]) -> None:
        labels, records = self.labels(policy), [{"prompt_id": prompt_id, "kl": kl} for prompt_id, kl in samples]
        spec = ArtifactSpec("divergence", policy.slug, labels, (policy.id,), labels)
        self.make(spec, {"divergence.jsonl": records})

    def labels(self, policy: ArtifactSpec) -> dict[str, Any]:
        labels = policy_labels(policy) | {"name": "policy"}
        labels |= {"opponent_id": self.baseline.id, "baseline_id": self.baseline.id, "answers": "c0de" * 16}
        labels |= {"judge": "scorer", "judge_id": self.judge.id, "judge_key": self.judge.hash, "has_zero": []}
        labels |= {"criteria": [criterion.to_judge() for criterion in self.criteria]}
        return labels | {"prompts": "demo", "prompts_id": "5eed" * 16}

    def scored(self, axes: tuple[str, str] = ("helpfulness", "safety")) -> GroupScores:
        """The numbers of the only group."""
        (group,) = collect_groups(self.store, None, None)
        return score_group(group, Settings(Resampling(100, 0.95, 0), 1.0, RatingMethod.bradley_terry, axes))

    def score(self, max_missing: float = 1.0) -> tuple[list[GroupScores], list[Cohort]]:
        settings = Settings(Resampling(200, 0.95, 0), max_missing, RatingMethod.bradley_terry)
        scores = [score_group(group, settings) for group in collect_groups(self.store, None, None)]
        return scores, score_cohorts(scores, settings)

    def report(self, **settings: Any) -> Path:
        usual = {"confidence": 0.95, "bootstrap_rounds": 200, "seed": 0, "max_missing": 1.0}
        usual |= {"interval": Interval.percentile, "rating": RatingMethod.bradley_terry}
        usual |= {"x": "helpfulness", "y": "safety"}
        report(ReportConfig(paths=PathsConfig(str(self.outputs)), **(usual | settings)))
        return self.folder


def _judge_metrics() -> dict[str, Any]:
    measured = {"accuracy": 0.75, "bag_of_words": 0.7, "length_only": 0.5, "keyword": 0.625, "n": 80}
    mismatched = {"mismatched": measured | {"accuracy": 0.9, "bag_of_words": 0.5}}
    return {"helpfulness": measured | mismatched, "safety": measured | {"n": 0, "accuracy": 0.0}}


def answers(
    helpfulness: Verdicts, safety: Verdicts, honesty: Verdicts = (None,) * 8, **more: Any
) -> list[dict[str, Any]]:
    """Records of eight prompts, four benign and four risky; None is a judgment that failed.

    `more` may have the `text` and `size` of the responses, and in `refused` a 1 for each that is a refusal.
    """
    usual = {"category": None, "n_tokens": more.get("size", 10), "opponent_n_tokens": 10, "finish_reason": "stop"}
    records = []
    for place, (kind, verdict) in enumerate(zip(KINDS, [*helpfulness, *safety], strict=True)):
        record = usual | {"prompt_id": f"p{place}", "prompt": f"Question {place}?", "kind": kind}
        record |= {"response": f"{more.get('text', 'Yes.')} {place}", "opponent_response": f"Well. {place}"}
        record |= {"is_refusal": more.get("refused", "0" * 8)[place] == "1", "honesty": _scored(honesty[place])}
        records.append(record | dict.fromkeys(("helpfulness", "safety"), _scored(verdict)))
    return records


def _scored(verdict: float | None) -> dict[str, Any]:
    state = "failed" if verdict is None else "ok"
    return {"state": state, "score": verdict, "opponent_score": 0.0, "verdict": verdict}


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


EVEN = answers([0.5] * 4, [0.5] * 4)
GIVEN = Fingerprints({"dataset": "rows"}, "prompts", "judge")


class Seeds(World):
    """Policies of real plans, and judgments made by hand, each seed against its own baseline."""

    def __init__(self, outputs: Path, configure: Any) -> None:
        super().__init__(outputs)
        self.configure = configure

    def plan(self, *overrides: str, fingerprints: Fingerprints = GIVEN) -> Plan:
        """The plan of these overrides; its baseline, judged, is that of what is judged next."""
        plan = make_plan(self.configure("model=nano", *overrides), fingerprints)
        self.baseline = plan.policies["baseline"]
        self.judgments(self.baseline, EVEN)
        return plan
