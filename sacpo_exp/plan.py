"""From a configuration to what has to exist: models, data, stages and merges, each with its id. Pure.

The recipe is the identity: configurations that determine the same content get the same id, whatever the machine, the
paths or the tracker, so a sweep makes every shared thing once.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sacpo_exp.config.data import DatasetConfig
from sacpo_exp.config.models import FloatType, ModelConfig, ModelSource
from sacpo_exp.config.schema import LossConfig, MergeMethod, Parent, RunConfig, StageConfig, Start, TrackedRun
from sacpo_exp.config.stages import (
    aligned_stages,
    loss_of,
    merge_weights,
    others_of,
    per_device_batch_size,
    policy_of,
    science_arguments,
)
from sacpo_exp.method import policy as lineage
from sacpo_exp.method.criteria import Criterion, Pairing
from sacpo_exp.method.losses import PAIRS_LOSS
from sacpo_exp.store import ArtifactSpec
from sacpo_exp.tracking.runs import describe_policy

#: Label of a manifest that holds the lineage of its policy.
LINEAGE = "lineage"


@dataclass(frozen=True)
class Fingerprints:
    """Hashes of things outside the configuration."""

    datasets: dict[str, str]  # of the rows that stages see, by key: `dataset`, `stages.safety.dataset`
    prompts: str = ""
    judge: str = ""  # of the rows that the judge is fitted on
    models: dict[str, str] = field(default_factory=dict)  # of model folders, by their path
    overrides: tuple[str, ...] = ()  # of the command, stored beside what it makes and part of no id


@dataclass(frozen=True)
class StageData:
    """Rows in the form that a loss reads."""

    dataset: DatasetConfig
    config: StageConfig  # of a stage, for its criterion and its loss
    data: ArtifactSpec  # the prepared view of the dataset


@dataclass(frozen=True)
class Stage(StageData):
    """One training stage of a plan."""

    name: str  # its key in `config.stages`
    parent: ArtifactSpec  # whose policy is the reference
    per_device: int  # rows per device and pass
    accumulation: int
    artifact: ArtifactSpec
    start: ArtifactSpec  # whose weights it starts from
    guides: dict[ArtifactSpec, float] = field(default_factory=dict)  # policies that the loss reads: weight of log-ratio


@dataclass(frozen=True)
class Merge:
    """The average of policies, θ = Σ w_i·θ_i with Σ w_i = 1; of two policies q is the weight of the second."""

    policies: tuple[ArtifactSpec, ...]
    weights: tuple[float, ...]
    artifact: ArtifactSpec


@dataclass(frozen=True)
class Plan:
    """Everything that a configuration asks for, in order of making."""

    model: ArtifactSpec
    stages: tuple[Stage, ...]
    merge: Merge | None
    policies: dict[str, ArtifactSpec]  # by name: `baseline`, those of `others`, `first`, `second`, …, `merged`
    others: dict[str, ModelConfig] = field(default_factory=dict)  # made elsewhere, by artifact id

    def selected(self, wanted: str | list[str]) -> dict[str, ArtifactSpec]:
        """Return the policies that `policies=` names."""
        if wanted == "all":
            return self.policies
        names = [list(self.policies)[-1]] if wanted == "final" else list(wanted)
        return {name: self.policies[name] for name in names}

    def training(self) -> Iterator[ArtifactSpec]:
        """Yield the artifacts that `train` makes, in order."""
        yield self.model
        yield from dict.fromkeys(stage.data for stage in self.stages)
        yield from self.made()

    def made(self) -> Iterator[ArtifactSpec]:
        """Yield stages and the merge, in order."""
        yield from (stage.artifact for stage in self.stages)
        if self.merge is not None:
            yield self.merge.artifact


def make_plan(config: RunConfig, fingerprints: Fingerprints) -> Plan:
    """Return the plan of a checked configuration."""
    model = model_artifact(config.model, config.seed, config.optimization.dtype.value, fingerprints)
    stages: list[Stage] = []
    made = {"baseline": model}
    for name, stage in config.stages.items():
        if stage.criterion is None:
            stages.append(_plan_stage(config, name, stage, made["baseline"], made["baseline"], [], model, fingerprints))
            made["baseline"] = stages[-1].artifact
    others: dict[str, ModelConfig] = {}
    for name, other in others_of(config).items():
        spec = model_artifact(other, config.seed, config.optimization.dtype.value, fingerprints)
        made[name] = replace(spec, labels=spec.labels | {"model": config.model.name})  # beside it in reports
        others[spec.id] = other
    baseline, aligned = made["baseline"], aligned_stages(config)
    parent = baseline
    for place, (name, stage) in enumerate(aligned.items()):
        if config.merge == MergeMethod.naive:  # all start from the baseline, so all are trained like the first
            first = next(iter(aligned.values()))
            stage = replace(first, criterion=stage.criterion, beta=stage.beta, dataset=stage.dataset)
        reference = baseline if stage.parent == Parent.baseline else parent
        start = baseline if stage.start == Start.baseline else reference
        guides = [earlier for earlier in stages if earlier.config.criterion] if loss_of(stage).reads_guides else []
        stages.append(_plan_stage(config, name, stage, reference, start, guides, model, fingerprints))
        made[policy_of(place)] = stages[-1].artifact
        if config.merge == MergeMethod.linear:
            parent = stages[-1].artifact
    merge, weights = None, merge_weights(config)
    if weights is not None:
        merge = _plan_merge(tuple(made[policy_of(place)] for place in range(len(weights))), weights)
        made["merged"] = merge.artifact
    return Plan(model, tuple(stages), merge, made, others)


def model_artifact(model: ModelConfig, seed: int, dtype: str, fingerprints: Fingerprints) -> ArtifactSpec:
    """Return the untrained model. Its recipe says where the weights come from; a folder's, what they are."""
    recipe: dict[str, Any] = {"source": model.source.value, "revision": model.revision}
    recipe |= {"chat_template": model.chat_template, "dtype": dtype}
    if model.source == ModelSource.path:
        recipe["fingerprint"] = fingerprints.models[model.path or ""]
    elif model.source == ModelSource.scratch:
        recipe |= {"shape": asdict(model.shape) if model.shape else {}, "seed": seed}
        recipe["tokenizer_data"] = fingerprints.datasets["dataset"]
    else:
        recipe |= {"path": model.path, "file": model.file}
    spec = ArtifactSpec("model", model.name, recipe, (), {})
    return _with_lineage(spec, lineage.Base(spec.id, model.name, recipe))


def _with_lineage(spec: ArtifactSpec, policy: lineage.Policy) -> ArtifactSpec:
    return replace(spec, labels=spec.labels | {LINEAGE: policy.to_dict()})


def policy_of_spec(spec: ArtifactSpec) -> lineage.Policy:
    """Return the policy whose weights an artifact of a plan holds."""
    return lineage.read_policy(spec.labels[LINEAGE])


def dataset_artifact(
    config: RunConfig, dataset: DatasetConfig, rows: str, model: ArtifactSpec, stage: StageConfig
) -> ArtifactSpec:
    """Return the view of a dataset that a stage reads, tokenised for a model; `rows` is the rows' fingerprint."""
    limits, view, criterion = config.optimization, loss_of(stage).view.value, stage.criterion
    recipe = {
        "rows": rows,
        "view": view,
        "criterion": criterion and {key: getattr(criterion, key) for key in ("name", "preferred", "acceptable")},
        "tokenizer": model.hash,
        "max_length": limits.max_length,
        "max_prompt_length": limits.max_prompt_length,
    }
    if criterion is not None and criterion.pairing != Pairing.preferred:
        recipe["pairing"] = criterion.pairing.value
    if loss_of(stage).reads_flags:
        recipe["flags"] = True
    name = f"{dataset.name}.{criterion.name}.{view}" if criterion else f"{dataset.name}.{view}"
    labels = {"dataset": dataset.name, "model": config.model.name, "view": view}
    return ArtifactSpec("dataset", f"{name}.{model.slug}", recipe, (), labels)


def plan_pairs(config: RunConfig, criterion: Criterion, model: ArtifactSpec, fingerprints: Fingerprints) -> StageData:
    """Return the pairs by which policies are scored for a criterion: of the data of its stage, or of the run."""
    key, dataset = "dataset", config.dataset
    for group, entries in (("criteria", config.criteria), ("stages", config.stages)):
        for name, entry in entries.items():
            if entry.criterion == criterion and entry.dataset is not None:
                key, dataset = f"{group}.{name}.dataset", entry.dataset
    stage = StageConfig(criterion=criterion, loss=LossConfig(name=PAIRS_LOSS))
    data = dataset_artifact(config, dataset, fingerprints.datasets[key], model, stage)
    return StageData(dataset, stage, data)


def _plan_stage(
    config: RunConfig,
    name: str,
    stage: StageConfig,
    parent: ArtifactSpec,
    start: ArtifactSpec,
    guides: list[Stage],
    model: ArtifactSpec,
    fingerprints: Fingerprints,
) -> Stage:
    rows = fingerprints.datasets[f"stages.{name}.dataset" if stage.dataset else "dataset"]
    dataset, loss, adapter = stage.dataset or config.dataset, loss_of(stage), config.adapter
    per_device, processes = per_device_batch_size(config, stage), config.hardware.processes
    optimization = {key: getattr(value, "value", value) for key, value in asdict(config.optimization).items()}
    del optimization["float32_copy"]  # `rounds_updates` says whether there is one
    recipe: dict[str, Any] = {
        "loss": {"name": stage.loss.name} | {key: getattr(stage.loss, key) for key in loss.settings},
        "global_batch_size": stage.global_batch_size,
        "learning_rate": stage.learning_rate,
        "num_train_epochs": stage.num_train_epochs,
        "optimization": optimization,
        "seed": config.seed,
    }
    slug = stage.loss.name or ""
    if stage.criterion is not None:
        recipe |= {"criterion": stage.criterion.name, "beta": stage.beta}
        slug += f"_{stage.criterion.letter.lower()}_b{stage.beta:g}"
    if arguments := science_arguments(config, stage):
        recipe["trainer"] = arguments
    if adapter is not None:
        recipe["adapter"] = adapter.recipe()
        slug += f"_{adapter.tag()}"
    if loss.reads_micro_batch or (adapter is not None and adapter.lora_dropout):
        # TRL estimates KTO's KL within these two, and dropout draws one mask for each: only here they are science.
        recipe |= {"per_device_batch_size": per_device, "micro_batch_size": per_device * processes}
    if start is not parent:
        recipe["start"] = "baseline"
        slug += "_from_base"
    if rounds_updates(config):
        recipe["float32_copy"] = False
    data = dataset_artifact(config, dataset, rows, model, stage)
    labels = {"overrides": list(fingerprints.overrides)}
    others = ([] if start is parent else [start.id]) + [guide.artifact.id for guide in guides]
    spec = ArtifactSpec("stage", f"{parent.slug}.{slug}", recipe, (parent.id, data.id, *others), labels)
    step = lineage.Stage(
        recipe=recipe,
        data={key: value for key, value in data.recipe.items() if key != "tokenizer"},
        letter=stage.criterion.letter if stage.criterion else "",
        dataset=dataset.name,
        adapter=adapter.tag() if adapter else "",
    )
    policies = tuple(policy_of_spec(guide.artifact) for guide in guides)
    artifact = _with_lineage(spec, lineage.Aligned(spec.id, policy_of_spec(parent), step, policies))
    # r + λ·g with the implicit rewards β·log(π/π_ref): λ weighs all but the first.
    shares = [1.0, *[stage.loss.multiplier or 0.0] * len(guides)]
    weights = {guide.artifact: share * (guide.config.beta or 0.0) for guide, share in zip(guides, shares, strict=False)}
    accumulation = (stage.global_batch_size or 1) // (per_device * processes)
    return Stage(dataset, stage, data, name, parent, per_device, accumulation, artifact, start, weights)


def rounds_updates(config: RunConfig) -> bool:
    """Return whether 16-bit weights are updated without a float32 copy, which rounds small updates away.

    DeepSpeed keeps such a copy with every stage of ZeRO unless `optimization.float32_copy` is false, and torch alone
    never does, so here the machine is science.
    """
    is_short = config.optimization.dtype != FloatType.float32 and config.adapter is None
    return is_short and not (config.hardware.zero_stage and config.optimization.float32_copy)


def _plan_merge(policies: tuple[ArtifactSpec, ...], weights: tuple[float, ...]) -> Merge:
    short = f"q{weights[1]:g}" if len(weights) == 2 else "-".join(f"w{weight:g}" for weight in weights)
    policy = lineage.Merged("", tuple(map(policy_of_spec, policies)), weights)
    stem = "+".join(each.slug for each in policies) if policy.is_naive else policies[-1].slug
    recipe, labels = {"method": "linear", "weights": list(weights)}, {"overrides": policies[-1].labels["overrides"]}
    spec = ArtifactSpec("merge", f"{stem}.{short}", recipe, tuple(each.id for each in policies), labels)
    return Merge(policies, weights, _with_lineage(spec, replace(policy, id=spec.id)))


def describe_run(config: RunConfig, plan: Plan, spec: ArtifactSpec) -> TrackedRun | None:
    """Return the tracked run of a stage's or a merge's policy; None without a tracker."""
    if not config.tracker.chosen():
        return None
    told = describe_policy(policy_of_spec(spec), spec.recipe, spec.parents, config.tracker.group, asdict(config))
    return replace(told, is_last=spec == list(plan.made())[-1])
