"""The artifacts of an evaluation and their ids: responses, divergence, scores, judgments. Pure."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sacpo_exp.config.judges import (
    HigherIs,
    RewardModelJudgeConfig,
    ScorerJudgeConfig,
)
from sacpo_exp.config.schema import Engine, JudgeConfig, Matches, RunConfig
from sacpo_exp.config.stages import evaluated_criteria
from sacpo_exp.data.checks import FLAG_FIELDS, ID_FIELDS
from sacpo_exp.errors import ConfigError
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.method.policy import Base
from sacpo_exp.plan import LINEAGE, Fingerprints, model_artifact, policy_of_spec
from sacpo_exp.store import ArtifactSpec, content_hash

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


def encoder_artifact(judge: ScorerJudgeConfig, config: RunConfig, fingerprints: Fingerprints) -> ArtifactSpec:
    """Return the scorer's encoder, an untrained model in float32 whatever the dtype of the policies."""
    return model_artifact(judge.encoder, config.seed, "float32", fingerprints)


def scorer_artifact(judge: ScorerJudgeConfig, config: RunConfig, fingerprints: Fingerprints) -> ArtifactSpec:
    """Return the artifact of the fitted reward and cost heads."""
    encoder = encoder_artifact(judge, config, fingerprints)
    settings = {name: getattr(judge, name) for name in ("layer", "max_length", "regularization")}
    labels = {each.name: [each.preferred, each.acceptable] for each in scored_criteria(judge, config)}
    recipe = settings | {"data": fingerprints.judge, "criteria": labels}
    return ArtifactSpec("scorer", f"scorer.{judge.encoder.name}", recipe, (encoder.id,), {"judge": "scorer"})


def judge_id(judge: JudgeConfig, config: RunConfig, fingerprints: Fingerprints) -> str:
    """Return the id of a judge that gives absolute scores."""
    if isinstance(judge, ScorerJudgeConfig):
        return scorer_artifact(judge, config, fingerprints).id
    if isinstance(judge, RewardModelJudgeConfig):
        identity: dict[str, Any] = {"dtype": judge.dtype.value, "max_length": judge.max_length}
        for name, head in judge.heads.items():
            model = model_artifact(head.model, config.seed, "", fingerprints).recipe
            identity[name] = {"model": model, "form": head.form.value, "higher_is": head.higher_is.value}
        return f"{judge.name}-{content_hash(identity)[:10]}"
    raise TypeError(f"{type(judge).__name__} has no scores of its own")


def scored_criteria(judge: JudgeConfig, config: RunConfig) -> list[Criterion]:
    """Return the evaluated criteria that a judge with absolute scores has a head for, or labels in its own rows.

    Raises:
        ConfigError: there are none.
    """
    criteria = evaluated_criteria(config)
    if isinstance(judge, RewardModelJudgeConfig):
        scored, what = [each for each in criteria if each.name in judge.heads], "a head in `judge.heads`"
    else:
        what = "labels in the scorer's own rows"
        scored = [each for each in criteria if each.preferred in ID_FIELDS]
        scored = [each if _has_flags(each) else replace(each, acceptable=None) for each in scored]
    if not scored:
        names = ", ".join(criterion.name for criterion in criteria)
        raise ConfigError(f"judge={judge.name} can't score any of `evaluated` ({names}): none has {what}.")
    return scored


def _has_flags(criterion: Criterion) -> bool:
    """Return whether the scorer's rows label single responses for the criterion."""
    return criterion.acceptable is not None and criterion.acceptable.format(i=0) in FLAG_FIELDS


def criteria_with_zero(judge: JudgeConfig, config: RunConfig) -> list[str]:
    """Return the names of criteria whose score of 0 separates acceptable responses from others.

    These are costs, and the scorer's heads of criteria with labels of single responses.
    """
    scored = scored_criteria(judge, config)
    if isinstance(judge, RewardModelJudgeConfig):
        return [each.name for each in scored if judge.heads[each.name].higher_is == HigherIs.worse]
    return [each.name for each in scored if each.acceptable is not None]


def judge_key(judge: JudgeConfig, config: RunConfig, fingerprints: Fingerprints) -> str:
    """Return a judge's id without the seed of the scorer's encoder."""
    if not isinstance(judge, ScorerJudgeConfig):
        return judge_id(judge, config, fingerprints)
    encoder = policy_of_spec(encoder_artifact(judge, config, fingerprints)).hash_without("seed")
    return content_hash([scorer_artifact(judge, config, fingerprints).recipe, encoder])


def scores_artifact(
    entrant: Entrant, judge: JudgeConfig, judge_key: str, criteria: Sequence[Criterion]
) -> ArtifactSpec:
    """Return the artifact of a judge's scores of the entrant's responses; `judge_key` comes from `judge_id`."""
    recipe = {"criteria": [criterion.name for criterion in criteria]}
    parents = (entrant.responses.id, judge_key)
    return ArtifactSpec("scores", f"{entrant.responses.slug}.{judge.name}", recipe, parents, entrant.labels)


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
        judge_labels: `judge_id`; `judge_key`, independent of the seed; `answers`, the hash of the baseline's
            responses; `has_zero`, from `criteria_with_zero`.
        recipe, parents: what decided the verdicts.
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
            "criteria": [asdict(criterion) for criterion in contest.criteria],
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
