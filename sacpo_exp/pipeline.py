"""The story of a run: open it, check its data, then make models, views, stages and merges, each once."""

import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sacpo_exp.cluster.groups import run_stage
from sacpo_exp.cluster.nodes import ALONE, Nodes
from sacpo_exp.config.data import DatasetSource
from sacpo_exp.config.judges import ScorerJudgeConfig
from sacpo_exp.config.models import ModelConfig, ModelSource, explain_chat_template, lacks_chat_template
from sacpo_exp.config.schema import REFERENCE, RunConfig, StageJob
from sacpo_exp.config.stages import datasets_of, loss_of, models_of, others_of
from sacpo_exp.data.demo.contrasts import generate_judge_rows
from sacpo_exp.data.hub import find_description, is_commit, pin_revision
from sacpo_exp.data.preferences import Preferences, make_view, texts_of, undesirable_weight
from sacpo_exp.data.preparation import Limits, count_rows_to_read, describe_labels, prepare_view, with_lengths
from sacpo_exp.data.prompts import fingerprint_prompts
from sacpo_exp.data.sources import SPLITS, changed_meanwhile, fingerprint, load_parts
from sacpo_exp.errors import ConfigError, DataError, MissingArtifactError
from sacpo_exp.method.losses import View
from sacpo_exp.plan import Fingerprints, Plan, Stage, StageData, describe_run, make_plan
from sacpo_exp.store import ArtifactSpec, Store, content_hash
from sacpo_exp.store.mirror import open_mirror
from sacpo_exp.tracking.runs import tracked
from sacpo_exp.training.arguments import find_argument_problems
from sacpo_exp.training.embedded import convert_embedded, make_from_scratch
from sacpo_exp.training.merging import merge_policies
from sacpo_exp.training.models import Location, download_model, explain_unreachable, external_location, hash_model

log = logging.getLogger(__name__)

#: Keys of a stage's recipe that do not change the log-probabilities of its reference.
NOT_OF_REFERENCE = ("beta", "learning_rate", "global_batch_size", "start")


@dataclass(frozen=True)
class Run:
    """A configuration, its plan, and the store of what is planned."""

    config: RunConfig
    fingerprints: Fingerprints
    plan: Plan
    store: Store


def open_run(config: RunConfig) -> Run:
    """Return the run of a configuration, after a check of its mirror and its data; a dry run downloads no data.

    Raises:
        ConfigError: a trainer argument, or the mirror's address, bucket or credentials are wrong.
        DataError: a file can't be used, or has no rows for one of the stages.
    """
    # Read by DeepSpeed when accelerate imports it; without it DeepSpeed guesses and prints that every time.
    os.environ.setdefault("DS_ACCELERATOR", config.hardware.accelerator.value)
    pin_models(config)
    if problems := find_argument_problems(config):
        raise ConfigError(problems)
    mirror = None if config.store.mirror is None else open_mirror(config.store.mirror)
    store = Store(Path(config.paths.outputs) / "store", mirror)
    fingerprints = take_fingerprints(config)
    run = Run(config, fingerprints, make_plan(config, fingerprints), store)
    check_data(run)
    return run


def pin_models(config: RunConfig) -> None:
    """Replace branches of models on the hub by their commits, so that an id always means the same weights.

    A branch whose commit is unknown (offline) stays, and is refused when it is to be loaded.

    Raises:
        ConfigError: the hub has no such model, gives no access to it, or the model has no chat template.
    """
    others = others_of(config)
    for key, model in [*models_of(config).items(), *(("model", other) for other in others.values())]:
        if model.source == ModelSource.hub and (path := model.path):
            model.revision = pin_revision("model", path, model.revision, may_guess=True)
            folder = find_description("model", path, model.revision)
            if folder and lacks_chat_template(replace(model, path=str(folder))):
                raise ConfigError(explain_chat_template(path, key))
    config.others = [
        f"{other.path}@{other.revision}" if other.source == ModelSource.hub else written
        for written, other in zip(config.others, others.values(), strict=True)
    ]


def take_fingerprints(config: RunConfig) -> Fingerprints:
    """Return hashes of all data and folders that the configuration names.

    Raises:
        DataError: a file can't be used.
    """
    models = [*models_of(config).values(), *others_of(config).values()]
    folders = [model.path for model in models if model.source == ModelSource.path]
    is_scored = isinstance(config.judge, ScorerJudgeConfig)
    return Fingerprints(
        datasets={key: fingerprint(dataset, config.dry_run) for key, dataset in datasets_of(config).items()},
        prompts=fingerprint_prompts(config.prompts, config.dataset),
        judge=content_hash(generate_judge_rows("judge", config.dataset.seed)) if is_scored else "",
        models={path: hash_model(path) for path in folders if path},
        overrides=tuple(text.replace("\\${", "${") for text in config.overrides),
    )


def check_data(run: Run) -> None:
    """Raise DataError now, not after hours, for a stage that can't learn from its data."""
    loaded: dict[int, Mapping[str, Preferences]] = {}  # stages mostly share a dataset; read its rows once
    for stage in run.plan.stages:
        if not is_at_hand(run, stage):
            continue
        is_stored = run.store.has(stage.data)
        if not is_stored and id(stage.dataset) not in loaded:
            loaded[id(stage.dataset)] = load_parts(stage.dataset)[0]
        try:
            find_obstacle(run, stage, None if is_stored else loaded[id(stage.dataset)])
        except DataError as error:
            used = f"{stage.dataset.path or f'dataset={stage.dataset.name}'} can't be used for stages.{stage.name}"
            raise DataError(f"{used}: {error}") from error


def is_at_hand(run: Run, stage: Stage) -> bool:
    """Return whether a stage's rows can be read now; a dry run downloads nothing."""
    return not run.config.dry_run or stage.dataset.source != DatasetSource.hub or run.store.has(stage.data)


def find_obstacle(run: Run, stage: Stage, parts: Mapping[str, Preferences] | None) -> None:
    """Raise DataError if a stage can't learn from its rows; `parts` is None if their view is stored."""
    loss, criterion = loss_of(stage.config), stage.config.criterion
    if parts is None:
        examples, labels = (run.store.manifest(stage.data).metrics["train"][name] for name in ("examples", "labels"))
    else:
        is_mixed = stage.dataset.only_mixed_pairs
        views = [make_view(parts[split], loss.view, criterion, is_mixed, loss.reads_flags) for split in SPLITS]
        if loss.view == View.labels and any("margin" in row for row in parts["train"].rows):
            raise DataError(f"the pairs have a `margin`, which {loss.name} can't read: it reads single completions.")
        examples, labels = len(views[0]), describe_labels(parts["train"], criterion)
    if criterion is not None and loss.view == View.labels:
        undesirable_weight(labels[criterion.name]["desirable"], labels[criterion.name]["undesirable"])
    rows = count_rows_to_read(examples, stage.config.num_train_epochs or 1)
    if rows < (batch := stage.config.global_batch_size or 1):
        key = f"stages.{stage.name}.global_batch_size"
        raise DataError(
            f"the {rows} rows are fewer than one batch of {key}={batch}. Try: {key}={2 ** (rows.bit_length() - 1)}"
        )


def prepare(run: Run, stage: StageData) -> Path:
    """Return the prepared view of a stage's dataset; make it if needed."""

    def build(folder: Path) -> dict[str, Any]:
        from sacpo_exp.training.models import count_positions, load_tokenizer

        location, given, config = locate(run, run.plan.model), run.config.optimization, stage.config
        tokenizer, rows = load_tokenizer(location, run.config.model.chat_template), stage.data.recipe["rows"]
        limits = Limits(given.max_length, given.max_prompt_length, count_positions(location, tokenizer))
        return prepare_view(stage.dataset, loss_of(config), config.criterion, tokenizer, limits, folder, rows)

    return run.store.get_or_build(stage.data, build)


def train_policies(run: Run, nodes: Nodes = ALONE) -> None:
    """Make every stage and merge of the plan that is not stored yet."""
    for stage in run.plan.stages:
        train(run, stage, nodes)
    if run.plan.merge is not None:
        merge(run)


def train(run: Run, stage: Stage, nodes: Nodes = ALONE) -> Path:
    """Return the stage's artifact; train it if needed."""

    def build(folder: Path) -> dict[str, Any]:
        reference = reference_artifact(stage, stage.parent)
        if stage.start is not stage.parent:  # a trainer holds one policy, so the parent's part comes first
            score_rows(run, stage, stage.parent, nodes)
        guides = {str(score_rows(run, stage, guide, nodes)): weight for guide, weight in stage.guides.items()}
        is_known = stage.config.criterion is not None and run.store.is_available(reference)
        job = replace(
            make_job(run, stage, stage.start, folder),
            reference=str(run.store.open(reference).resolve()) if is_known else None,
            guides=guides,
            tracked=describe_run(run.config, run.plan, stage.artifact),
        )
        log.info("trains   %s", stage.artifact.id)
        try:
            return run_stage(job, nodes)
        finally:
            store_reference(run, reference, folder / REFERENCE)

    return run.store.get_or_build(stage.artifact, build)


def reference_artifact(stage: Stage, policy: ArtifactSpec) -> ArtifactSpec:
    """Return the artifact with the log-probabilities of a stage's rows under a policy."""
    recipe = {key: value for key, value in stage.artifact.recipe.items() if key not in NOT_OF_REFERENCE}
    recipe["loss"] = stage.config.loss.name  # a sweep over its settings computes them once
    return ArtifactSpec("reference", f"{policy.slug}.{stage.data.slug}", recipe, (policy.id, stage.data.id), {})


def make_job(run: Run, stage: Stage, policy: ArtifactSpec, folder: Path) -> StageJob:
    """Return what a worker needs for a stage's data and a policy; make both if needed."""
    location, view = locate(run, policy), prepare(run, stage)
    # The stage as planned, since naive merging trains all stages like the first.
    config = replace(run.config, stages=run.config.stages | {stage.name: stage.config})
    return StageJob(
        config=with_lengths(config, run.store.manifest(stage.data).metrics),
        name=stage.name,
        artifact_id=stage.artifact.id,
        parent=location.path,
        revision=location.revision,
        view=str(view.resolve()),
        folder=str(folder.resolve()),
        accumulation=stage.accumulation,
        per_device=stage.per_device,
    )


def score_rows(run: Run, stage: Stage, policy: ArtifactSpec, nodes: Nodes = ALONE) -> Path:
    """Return the folder with the log-probabilities of a stage's rows under a policy; compute them if needed."""

    def build(folder: Path) -> dict[str, Any]:
        log.info("scores   %s with %s", stage.data.id, policy.id)
        run_stage(replace(make_job(run, stage, policy, folder), only_reference=True), nodes)
        metrics = move_files(folder / REFERENCE, folder)
        (folder / REFERENCE).rmdir()
        return metrics

    return run.store.get_or_build(reference_artifact(stage, policy), build).resolve()


def store_reference(run: Run, spec: ArtifactSpec, folder: Path) -> None:
    """Store the log-probabilities that a stage wrote into `folder`, for stages with another β."""
    if all((folder / f"{split}.arrow").is_file() for split in ("train", "eval")):
        run.store.get_or_build(spec, lambda final: move_files(folder, final))
    shutil.rmtree(folder, ignore_errors=True)


def move_files(source: Path, target: Path) -> dict[str, Any]:
    """Move all files of a folder into another; return the metrics of such an artifact, none."""
    for path in source.iterdir():
        path.replace(target / path.name)
    return {}


def merge(run: Run) -> Path:
    """Return the merged policy of the plan; average it if needed.

    Raises:
        MissingArtifactError: a parent has not been trained.
    """
    if (planned := run.plan.merge) is None:
        raise MissingArtifactError("this plan merges nothing. Try: merge_ratio=0.5")

    def build(folder: Path) -> dict[str, Any]:
        metrics = merge_policies([run.store.open(policy) for policy in planned.policies], planned.weights, folder)
        told = describe_run(run.config, run.plan, planned.artifact)
        with tracked(run.config.tracker, told, run.config.paths.outputs) as tracking:
            tracking.log_policy(folder, metrics)
            tracking.is_complete = True
        return metrics

    require_trained(run, list(planned.policies))
    return run.store.get_or_build(planned.artifact, build)


def require_trained(run: Run, policies: list[ArtifactSpec], hint: str = "") -> None:
    """Raise MissingArtifactError for stages that are neither stored nor mirrored; `hint` says how they are made."""
    if missing := [each.id for each in policies if each.kind == "stage" and not run.store.is_available(each)]:
        names, hint = ", ".join(missing), hint or "Run `sacpo train` with the same overrides first."
        raise MissingArtifactError(f"not trained yet: {names}. {hint}")


def ready_policies(run: Run, policies: Mapping[str, ArtifactSpec]) -> None:
    """Make sure that these policies of the plan can be used: merge if needed, never train.

    Raises:
        MissingArtifactError: one has not been trained.
    """
    require_trained(run, [*policies.values()])
    if run.plan.merge and "merged" in policies and not run.store.is_available(run.plan.merge.artifact):
        merge(run)  # a mirrored one is fetched when it is opened


def locate(run: Run, policy: ArtifactSpec) -> Location:
    """Return the location of a policy's files; store an untrained model first, and verify stored ones."""
    if policy.kind == "model":
        return locate_model(run, run.plan.others.get(policy.id, run.config.model), policy)
    return Location(str(run.store.open(policy).resolve()))


def locate_model(run: Run, model: ModelConfig, spec: ArtifactSpec) -> Location:
    """Return the location of an untrained model: itself for a folder or a repository on the hub, else in the store."""
    if outside := locate_outside(run, model):
        return outside

    def build(folder: Path) -> dict[str, Any]:
        if model.source == ModelSource.embedded:
            return convert_embedded(model, spec.recipe["dtype"], folder)
        texts = texts_of(load_parts(run.config.dataset, spec.recipe["tokenizer_data"])[0]["train"])
        return make_from_scratch(model, spec.recipe["dtype"], run.config.seed, texts, folder)

    return Location(str(run.store.get_or_build(spec, build).resolve()))


def locate_outside(run: Run, model: ModelConfig) -> Location | None:
    """Return `external_location` after a check that it still is what the ids were taken from.

    Raises:
        ConfigError: the commit of a branch is not known.
        DataError: a folder has been edited since.
    """
    if model.source == ModelSource.hub and not is_commit(model.revision or ""):
        unknown = OSError(f"the commit of `{model.revision}` is not known here.")
        raise explain_unreachable(Location(model.path or ""), unknown)
    if model.source == ModelSource.path and hash_model(model.path or "") != run.fingerprints.models[model.path or ""]:
        raise changed_meanwhile(f"{model.path}")
    location = external_location(model)
    if location is not None and model.source == ModelSource.hub:
        download_model(location)  # once, before several processes load it
    return location
