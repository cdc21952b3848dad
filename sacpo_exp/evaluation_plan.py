"""From a plan to what an evaluation makes of it: responses, divergence, scorer, judgments, each with its id. Pure."""

from dataclasses import asdict
from typing import Any

from sacpo_exp.config.schema import RunConfig
from sacpo_exp.plan import Fingerprints, Plan, model_artifact
from sacpo_exp.store import ArtifactSpec, content_hash

#: The encoder's weights are kept in float32, whatever the policies are trained in.
ENCODER_DTYPE = "float32"


def responses_artifact(policy: ArtifactSpec, config: RunConfig, fingerprints: Fingerprints) -> ArtifactSpec:
    """The policy's greedy responses to the evaluation prompts."""
    recipe = {
        "prompts": fingerprints.prompts,
        "max_new_tokens": config.generation.max_new_tokens,
        "dtype": config.generation.dtype.value,
        "stop": list(config.model.stop),
    }
    return ArtifactSpec("responses", f"{policy.slug}.{config.prompts.name}", recipe, (policy.id,), _labels(policy))


def divergence_artifact(
    policy: ArtifactSpec, baseline: ArtifactSpec, config: RunConfig, fingerprints: Fingerprints
) -> ArtifactSpec:
    """Sampled KL(policy ‖ baseline)."""
    recipe = {
        "prompts": fingerprints.prompts,
        "kl_prompts": config.generation.kl_prompts,
        "kl_samples": config.generation.kl_samples,
        "max_new_tokens": config.generation.max_new_tokens,
        "stop": list(config.model.stop),
        "seed": config.seed,
    }
    labels = _labels(policy) | {"baseline_id": baseline.id}
    slug = f"{policy.slug}.{config.prompts.name}"
    return ArtifactSpec("divergence", slug, recipe, (policy.id, baseline.id), labels)


def encoder_artifact(config: RunConfig, fingerprints: Fingerprints) -> ArtifactSpec:
    """The scorer's encoder: a model as it came, never a trained policy."""
    return model_artifact(config.judge.encoder, config.seed, ENCODER_DTYPE, fingerprints)


def scorer_artifact(config: RunConfig, fingerprints: Fingerprints) -> ArtifactSpec:
    """The fitted reward and cost heads."""
    encoder = encoder_artifact(config, fingerprints)
    judge: dict[str, Any] = {
        key: value for key, value in asdict(config.judge).items() if key not in ("name", "encoder")
    }
    recipe = judge | {"data": fingerprints.judge}
    return ArtifactSpec("scorer", f"scorer.{config.judge.encoder.name}", recipe, (encoder.id,), {"judge": "scorer"})


def scores_artifact(policy: ArtifactSpec, config: RunConfig, fingerprints: Fingerprints) -> ArtifactSpec:
    """What the scorer gives each of the policy's responses."""
    parents = (responses_artifact(policy, config, fingerprints).id, scorer_artifact(config, fingerprints).id)
    return ArtifactSpec("scores", f"{policy.slug}.{config.judge.name}", {}, parents, _labels(policy))


def judgments_artifact(name: str, plan: Plan, config: RunConfig, fingerprints: Fingerprints) -> ArtifactSpec:
    """Verdicts on the responses of the policy called `name` in the plan, against the baseline's."""
    policy, baseline = plan.policies[name], plan.policies["baseline"]
    parents = tuple(scores_artifact(spec, config, fingerprints).id for spec in (policy, baseline))
    labels = _labels(policy) | {
        "name": name,
        "baseline_id": baseline.id,
        "judge": config.judge.name,
        "judge_id": scorer_artifact(config, fingerprints).id,
        "prompts": config.prompts.name,
        # Prompts and how they were answered: only policies that share both are compared.
        "prompts_id": content_hash(responses_artifact(policy, config, fingerprints).recipe),
    }
    return ArtifactSpec("judgments", f"{policy.slug}.{config.judge.name}", {}, parents, labels)


def _labels(policy: ArtifactSpec) -> dict[str, Any]:
    defaults = {"beta": None, "merge_ratio": None, "seed": None, "dataset": None}
    return defaults | policy.labels | {"policy_id": policy.id}
