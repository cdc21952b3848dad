"""From a configuration to what has to exist: models, stages, merges, responses, scores, each with its id. Pure.

The recipe is the identity: two configurations that determine the same content get the same id, whatever the machine,
the paths or the tracker, so a sweep makes every shared thing once.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any

from sacpo_exp.config.adapters import adapter_recipe, adapter_tag
from sacpo_exp.config.models import AdapterConfig, FloatType, ModelConfig, ModelSource
from sacpo_exp.config.others import others_of
from sacpo_exp.config.schema import (
    BaseStageConfig,
    Criterion,
    DatasetConfig,
    LossName,
    MergeMethod,
    RunConfig,
    StageConfig,
)
from sacpo_exp.config.validation import per_device_batch_size, policy_names
from sacpo_exp.store import ArtifactSpec

#: Short names in slugs and figure labels.
LETTERS = {Criterion.helpfulness: "H", Criterion.safety: "S"}


@dataclass(frozen=True)
class Fingerprints:
    """Hashes of things outside the configuration.

    Attributes:
        datasets: of the rows that stages see, by the configuration's key: `dataset`, `stages.second.dataset`.
        prompts: of the evaluation prompts.
        judge: of the rows that the judge is fitted on.
        models: of model folders, by their path.
    """

    datasets: dict[str, str]
    prompts: str = ""
    judge: str = ""
    models: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One training stage of a plan.

    Attributes:
        name: `base`, `first` or `second`.
        dataset: that it trains on.
        data: the prepared views of that dataset.
        parent: the artifact whose policy is both starting point and reference.
        per_device: rows per device and pass.
    """

    name: str
    config: BaseStageConfig
    dataset: DatasetConfig
    data: ArtifactSpec
    parent: ArtifactSpec
    per_device: int
    accumulation: int
    artifact: ArtifactSpec


@dataclass(frozen=True)
class Merge:
    """θ_q = q·θ_second + (1 − q)·θ_first."""

    first: ArtifactSpec
    second: ArtifactSpec
    ratio: float
    artifact: ArtifactSpec


@dataclass(frozen=True)
class Plan:
    """Everything that a configuration asks for, in order of making.

    Attributes:
        policies: by name: `baseline`, those of `others`, `first`, `second`, `merged`.
        others: models that were made elsewhere, by artifact id.
    """

    model: ArtifactSpec
    stages: tuple[Stage, ...]
    merge: Merge | None
    policies: dict[str, ArtifactSpec]
    others: dict[str, ModelConfig] = field(default_factory=dict)

    def selected(self, wanted: str | list[str]) -> dict[str, ArtifactSpec]:
        """The policies that `policies=` names."""
        if wanted == "all":
            return self.policies
        names = [list(self.policies)[-1]] if wanted == "final" else list(wanted)
        return {name: self.policies[name] for name in names}

    def training(self) -> Iterator[ArtifactSpec]:
        """Artifacts that `train` makes, in order."""
        yield self.model
        yield from dict.fromkeys(stage.data for stage in self.stages)
        yield from self.made()

    def made(self) -> Iterator[ArtifactSpec]:
        """Stages and the merge, in order."""
        yield from (stage.artifact for stage in self.stages)
        if self.merge is not None:
            yield self.merge.artifact


def make_plan(config: RunConfig, fingerprints: Fingerprints) -> Plan:
    """The plan of a checked configuration."""
    model = model_artifact(config.model, config.seed, config.optimization.dtype.value, fingerprints)
    stages = []
    parent = model
    if config.stages.base is not None:
        stages.append(_stage(config, "base", config.stages.base, parent, model, fingerprints))
        parent = stages[-1].artifact
    made = {"baseline": parent, "first": parent, "second": parent}
    if config.merge == MergeMethod.naive:
        stages += [_stage(config, "first", stage, parent, model, fingerprints) for stage in _one_stage_orders(config)]
        made |= {"first": stages[-2].artifact, "second": stages[-1].artifact}
    else:
        for name in ("first", "second"):
            stage = getattr(config.stages, name)
            if stage is not None:
                stages.append(_stage(config, name, stage, parent, model, fingerprints))
                made[name] = parent = stages[-1].artifact
    merge = None
    if config.merge_ratio is not None:
        merge = _merge(config.merge, config.merge_ratio, made["first"], made["second"])
        made["merged"] = merge.artifact
    others = {name: (other, _other_artifact(config, other, fingerprints)) for name, other in others_of(config).items()}
    made |= {name: spec for name, (_, spec) in others.items()}
    policies = {name: made[name] for name in policy_names(config)}
    return Plan(model, tuple(stages), merge, policies, {spec.id: other for other, spec in others.values()})


def _other_artifact(config: RunConfig, other: ModelConfig, fingerprints: Fingerprints) -> ArtifactSpec:
    """A model that was made elsewhere; reports show it beside the policies of `model`."""
    spec = model_artifact(other, config.seed, config.optimization.dtype.value, fingerprints)
    labels = {"model": config.model.name, "policy": other.name, "family": other.name}
    return replace(spec, labels=labels)


def model_artifact(model: ModelConfig, seed: int, dtype: str, fingerprints: Fingerprints) -> ArtifactSpec:
    """The untrained model. Its recipe says where the weights come from; a folder's, what they are."""
    recipe: dict[str, Any] = {
        "source": model.source.value,
        "revision": model.revision,
        "chat_template": model.chat_template,
        "dtype": dtype,
    }
    if model.source == ModelSource.path:
        recipe["fingerprint"] = fingerprints.models[model.path or ""]
    elif model.source == ModelSource.scratch:
        recipe |= {"shape": asdict(model.shape) if model.shape else {}, "seed": seed}
        recipe["tokenizer_data"] = fingerprints.datasets["dataset"]
    else:
        recipe |= {"path": model.path, "file": model.file}
    labels = {"model": model.name, "policy": model.name, "family": "base"}
    return ArtifactSpec("model", model.name, recipe, (), labels)


def dataset_artifact(config: RunConfig, dataset: DatasetConfig, rows: str, model: ArtifactSpec) -> ArtifactSpec:
    """A dataset's views, cut and tokenised for a model; `rows` is the fingerprint of the rows."""
    limits = config.optimization
    recipe = {
        "rows": rows,
        "tokenizer": model.hash,
        "max_length": limits.max_length,
        "max_prompt_length": limits.max_prompt_length,
    }
    # Settings, which the recipe knows by hashes only, are for those who want to make the same again.
    settings = _plain({"dataset": asdict(dataset), "model": asdict(config.model)})
    settings["fingerprint"] = model.recipe.get("fingerprint")
    labels = {"dataset": dataset.name, "model": config.model.name, "settings": settings}
    return ArtifactSpec("dataset", f"{dataset.name}.{model.slug}", recipe, (), labels)


def _one_stage_orders(config: RunConfig) -> list[StageConfig]:
    """The one stage of `helpful_only` and of `safety_only`, this configuration's first criterion first, each with the
    β of its criterion and the rest of the first stage."""
    first, second = config.stages.first, config.stages.second
    if first is None or second is None:
        raise ValueError("naive merging needs two stages")  # validation has said so to the user
    return [first, replace(first, criterion=second.criterion, beta=second.beta)]


def _stage(
    config: RunConfig,
    name: str,
    stage: BaseStageConfig,
    parent: ArtifactSpec,
    model: ArtifactSpec,
    fingerprints: Fingerprints,
) -> Stage:
    rows = fingerprints.datasets[f"stages.{name}.dataset" if stage.dataset else "dataset"]
    dataset = stage.dataset or config.dataset
    per_device = per_device_batch_size(config, stage)
    recipe = {
        "loss": _plain(_loss_that_matters(stage)),
        "global_batch_size": stage.global_batch_size,
        "learning_rate": stage.learning_rate,
        "num_train_epochs": stage.num_train_epochs,
        "optimization": _plain(asdict(config.optimization)),
        "seed": config.seed,
    }
    if isinstance(stage, StageConfig):
        recipe |= {"criterion": stage.criterion.value, "beta": stage.beta}
    if config.adapter is not None:
        recipe["adapter"] = adapter_recipe(config.adapter)
    if stage.loss.name == LossName.kto or (config.adapter is not None and config.adapter.lora_dropout):
        # TRL estimates KTO's KL within these two, and dropout draws one mask for each: only here they are science.
        recipe |= {"per_device_batch_size": per_device, "micro_batch_size": per_device * config.hardware.processes}
    if rounds_updates(config):
        recipe["float32_copy"] = False
    data = dataset_artifact(config, dataset, rows, model)
    labels = _stage_labels(config, parent, stage)
    artifact = ArtifactSpec("stage", _stage_slug(parent, stage, config.adapter), recipe, (parent.id, data.id), labels)
    accumulation = stage.global_batch_size // (per_device * config.hardware.processes)
    return Stage(name, stage, dataset, data, parent, per_device, accumulation, artifact)


def rounds_updates(config: RunConfig) -> bool:
    """Whether 16-bit weights are updated without a float32 copy, which rounds small updates away.

    DeepSpeed keeps such a copy with every stage of ZeRO and torch alone does not, so here the machine is science.
    """
    is_short = config.optimization.dtype != FloatType.float32
    return is_short and config.hardware.zero_stage == 0 and config.adapter is None


def _loss_that_matters(stage: BaseStageConfig) -> dict[str, Any]:
    """The loss without the settings that it does not read, so that they can't make two ids of one thing."""
    loss = asdict(stage.loss)
    if stage.loss.name == LossName.sft:
        return {"name": loss["name"]}
    if stage.loss.name == LossName.dpo:
        return {key: loss[key] for key in ("name", "loss_type", "label_smoothing")}
    return {key: loss[key] for key in ("name", "loss_type", "desirable_weight", "undesirable_weight")}


def _stage_slug(parent: ArtifactSpec, stage: BaseStageConfig, adapter: AdapterConfig | None) -> str:
    tag = f"_{adapter_tag(adapter)}" if adapter else ""
    if isinstance(stage, StageConfig):
        letter = LETTERS[stage.criterion].lower()
        return f"{parent.slug}.{stage.loss.name.value}_{letter}_b{stage.beta:g}{tag}"
    return f"{parent.slug}.sft{tag}"


def _stage_labels(config: RunConfig, parent: ArtifactSpec, stage: BaseStageConfig) -> dict[str, Any]:
    """What tables and figures call the policy that this stage makes."""
    before = parent.labels
    labels = {"model": config.model.name, "dataset": config.dataset.name, "seed": config.seed}
    if not isinstance(stage, StageConfig):
        policy = f"{adapter_tag(config.adapter)} SFT" if config.adapter else "SFT"
        return labels | {"policy": policy, "family": "base", "beta": None, "merge_ratio": None}
    step = f"{stage.loss.name.value.upper()}({LETTERS[stage.criterion]})"
    opening = f"{adapter_tag(config.adapter)} {step}" if config.adapter else step
    family = opening if before["family"] == "base" else f"{before['family']}→{step}"
    return labels | {"policy": f"{family} β={stage.beta:g}", "family": family, "beta": stage.beta, "merge_ratio": None}


def _merge(method: MergeMethod, ratio: float, first: ArtifactSpec, second: ArtifactSpec) -> Merge:
    recipe = {"method": "linear", "ratio": ratio}
    name = "P-SACPO" if method == MergeMethod.linear else "naive merge"
    if method == MergeMethod.linear:
        family = f"P-SACPO {second.labels['family']}"
    else:
        family = f"naive {first.labels['family']}+{second.labels['family']}"
    labels = second.labels | {"policy": f"{name} q={ratio:g}", "family": family, "merge_ratio": ratio}
    slug = f"{second.slug}.q{ratio:g}" if method == MergeMethod.linear else f"{first.slug}+{second.slug}.q{ratio:g}"
    return Merge(first, second, ratio, ArtifactSpec("merge", slug, recipe, (first.id, second.id), labels))


def _plain(value: Any) -> Any:
    """Enums as their values, so that a recipe is JSON."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return value.value if isinstance(value, Enum) else value
