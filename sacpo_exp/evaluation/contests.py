"""Contests, the artifacts of an evaluation with their ids, and the format of their records."""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sacpo_exp.config.schema import Engine, JudgeConfig, Matches, RunConfig
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.method.policy import Base
from sacpo_exp.plan import LINEAGE, Fingerprints, policy_of_spec
from sacpo_exp.store import ArtifactSpec, content_hash

RESPONSES, SCORES = "responses.jsonl", "scores.jsonl"
VERDICTS, DIVERGENCE = "verdicts.jsonl", "divergence.jsonl"
#: Version of the lines of `verdicts.jsonl`.
RECORD_FORMAT = 3


@dataclass(frozen=True)
class Entrant:
    """A policy that is judged by its responses.

    Attributes:
        name: `baseline`, `first`, `second` or `merged` in a plan; else what its file is called.
        labels: of the policy, with `policy_id`.
        folder: of its responses; None for a policy of the plan, whose responses may still have to be generated.
    """

    name: str
    responses: ArtifactSpec
    labels: dict[str, Any]
    folder: Path | None = None


@dataclass(frozen=True)
class Contest:
    """The policies that are judged, and on which prompts and criteria.

    Attributes:
        prompts: `prompt_id`, `prompt`, and where known `kind` and `category`.
        prompts_id: hash of the prompts and of how they were answered; only policies that share it are compared.
        baseline: one of the entrants.
        entrants: in the order in which they are judged, the baseline among them.
        criteria: that are judged.
    """

    prompts: list[dict[str, Any]]
    prompts_name: str
    prompts_id: str
    baseline: Entrant
    entrants: tuple[Entrant, ...]
    criteria: tuple[Criterion, ...]

    def matches(self, which: Matches) -> list[tuple[Entrant, Entrant]]:
        """Return (policy, opponent) pairs: all against the baseline, itself too; with `all_pairs` every other pair."""
        against = [(entrant, self.baseline) for entrant in self.entrants]
        if which == Matches.baseline:
            return against
        others = [entrant for entrant in self.entrants if entrant is not self.baseline]
        return against + [(later, earlier) for earlier, later in itertools.combinations(others, 2)]


def responses_artifact(policy: ArtifactSpec, config: RunConfig, fingerprints: Fingerprints) -> ArtifactSpec:
    """Return the artifact of the policy's greedy responses to the evaluation prompts."""
    recipe = {
        "prompts": fingerprints.prompts,
        "max_new_tokens": config.generation.max_new_tokens,
        "dtype": config.generation.dtype.value,
        "stop": list(config.model.stop),
    }
    recipe |= _engine(config)
    labels = policy_labels(policy) | {"model": config.model.name}  # also for `others`, in a report on this model
    return ArtifactSpec("responses", f"{policy.slug}.{config.prompts.name}", recipe, (policy.id,), labels)


def _engine(config: RunConfig) -> dict[str, Any]:
    # Engines round differently, which changes the response where two tokens are nearly as likely.
    return {} if config.generation.engine == Engine.hf else {"engine": config.generation.engine.value}


def imported_artifact(name: str, content: Any) -> ArtifactSpec:
    """Return the artifact of responses made elsewhere; `content` is all of them with their prompts.

    Only the name says which policy gave them, so it is part of the recipe.
    """
    spec = ArtifactSpec("responses", name, {"imported": content_hash(content), "name": name}, (), {})
    policy = Base(spec.id, name, spec.recipe)
    labels = policy.columns | {LINEAGE: policy.to_dict(), "name": name, "policy_id": spec.id}
    return ArtifactSpec(spec.kind, spec.slug, spec.recipe, (), labels)


def divergence_artifact(
    policy: ArtifactSpec, baseline: ArtifactSpec, config: RunConfig, fingerprints: Fingerprints
) -> ArtifactSpec:
    """Return the artifact of the sampled KL(policy ‖ baseline)."""
    recipe: dict[str, Any] = {
        "prompts": fingerprints.prompts,
        "kl_prompts": config.generation.kl_prompts,
        "kl_samples": config.generation.kl_samples,
        "max_new_tokens": config.generation.max_new_tokens,
        "stop": list(config.model.stop),
        "seed": config.seed,
        "draws": "by response",  # earlier versions drew by batch
    }
    recipe |= _engine(config)
    labels = policy_labels(policy) | {"baseline_id": baseline.id}
    slug = f"{policy.slug}.{config.prompts.name}"
    return ArtifactSpec("divergence", slug, recipe, (policy.id, baseline.id), labels)


def judgments_artifact(
    contest: Contest,
    match: tuple[Entrant, Entrant],
    judge: JudgeConfig,
    judge_labels: dict[str, Any],
    recipe: dict[str, Any],
    parents: tuple[str, ...],
) -> ArtifactSpec:
    """Return the artifact of the verdicts on a policy against its opponent.

    Args:
        judge_labels: `judge_id`; `judge_key`, the same for every seed; `answers`, a hash of the baseline's responses;
            `has_zero`, the names of criteria whose score of 0 separates acceptable responses from others.
    """
    policy, opponent = match
    labels = (
        policy.labels
        | judge_labels
        | {
            "name": policy.name,
            "opponent_id": opponent.labels["policy_id"],
            "baseline_id": contest.baseline.labels["policy_id"],
            "judge": judge.name,
            "prompts": contest.prompts_name,
            "prompts_id": contest.prompts_id,
            "criteria": [criterion.to_judge() for criterion in contest.criteria],
        }
    )
    versus = "" if opponent is contest.baseline else f".vs.{opponent.responses.slug}"
    slug = f"{policy.responses.slug}{versus}.{judge.name}"
    # The contest is part of the identity because the labels describe it.
    of_contest = {
        "format": RECORD_FORMAT,
        "prompts": contest.prompts_id,
        "baseline": contest.baseline.responses.hash,
        "criteria": {criterion.name: sorted(criterion.prompt_kinds) for criterion in contest.criteria},
    }
    return ArtifactSpec("judgments", slug, of_contest | recipe, parents, labels)


def policy_labels(artifact: ArtifactSpec) -> dict[str, Any]:
    """Return what reports show of a policy of a plan: its lineage and the columns derived from it."""
    policy = policy_of_spec(artifact)
    model = artifact.labels.get("model", policy.base.model)  # for `others` the model they are compared with
    return policy.columns | {"model": model, LINEAGE: policy.to_dict(), "policy_id": artifact.id}


def write_records(path: Path, records: list[dict[str, Any]]) -> None:
    """Write one record per line."""
    path.write_bytes("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode())


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read the records that `write_records` wrote."""
    with path.open(encoding="utf-8", newline="\n") as file:  # a response may hold other characters that end lines
        return [json.loads(line) for line in file]


def read_by_prompt(path: Path) -> dict[str, dict[str, Any]]:
    """Read records by prompt id."""
    return {record["prompt_id"]: record for record in read_records(path)}
