"""Read a composed configuration: its stages in order, the policies that they make, and all its models and datasets."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from sacpo_exp.config.data import DatasetConfig
from sacpo_exp.config.judges import RewardModelJudgeConfig, ScorerJudgeConfig
from sacpo_exp.config.models import ModelConfig, ModelSource, is_model_folder
from sacpo_exp.config.schema import RunConfig, StageConfig
from sacpo_exp.errors import ConfigError
from sacpo_exp.method.criteria import Criterion, Pairing
from sacpo_exp.method.losses import LOSSES, Loss

#: Names of places in the order, for `stage_defaults` and for policies.
PLACES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
#: Names that policies of a plan can have.
POLICIES = ("baseline", *PLACES, "merged")
NUMBERS = ("global_batch_size", "learning_rate", "num_train_epochs")
#: Trainer arguments that say when held-out rows are scored, and learning rate schedules that read the scores.
EVALUATION = ("eval_strategy", "eval_steps", "eval_delay", "eval_on_start")
METRIC_SCHEDULES = ("reduce_lr_on_plateau", "greedy")
#: Trainer arguments about the machine, which change no weights.
MACHINE = ("ddp_timeout", "dataloader_num_workers", "dataloader_pin_memory", "dataloader_prefetch_factor")
#: OWNER/NAME, optionally with a commit or branch.
REPOSITORY = re.compile(r"(?P<path>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def fill_stages(composed: DictConfig) -> DictConfig:
    """Return the composed configuration with a loss, β and numbers for every stage.

    A value of `stages.NAME` wins over `losses`, `earlier_betas` and `beta`, and these over `stage_defaults`.

    Raises:
        ConfigError: `losses` is empty although there are stages, or a loss does not exist.
    """
    if "stages" not in composed:
        return composed
    filled = composed.copy()
    aligned = [name for name, stage in filled.stages.items() if stage.criterion is not None]
    for name, stage in filled.stages.items():
        place = aligned.index(name) if name in aligned else None
        given = [key for key in PLACES if key in filled.stage_defaults]  # the last one repeats
        key = "sft" if place is None else given[min(place, len(given) - 1)] if given else ""
        defaults = filled.stage_defaults.get(key)
        for key in NUMBERS:
            if stage[key] is None and defaults is not None:
                stage[key] = defaults[key]
        if place is not None:
            if not stage.loss.name and not filled.losses:
                raise ConfigError("`losses` must have a value for each stage, but is empty. Try: losses=[dpo]")
            stage.loss.name = stage.loss.name or filled.losses[min(place, len(filled.losses) - 1)]
            if stage.beta is None:
                earlier = filled.earlier_betas if place < len(aligned) - 1 else []
                stage.beta = earlier[min(place, len(earlier) - 1)] if earlier else filled.beta
        if stage.loss.name not in LOSSES:
            key = "losses" if stage.loss.name in filled.losses else f"stages.{name}.loss.name"
            raise ConfigError(f"`{key}` must be of {', '.join(LOSSES)}, but is {stage.loss.name}.")
        for key, value in LOSSES[stage.loss.name].settings.items():
            if stage.loss[key] is None:
                stage.loss[key] = value
    return filled


def loss_of(stage: StageConfig) -> Loss:
    """Return the row of `LOSSES` of a filled stage."""
    return LOSSES[stage.loss.name or ""]


def science_arguments(config: RunConfig, stage: StageConfig) -> dict[str, Any]:
    """Return the trainer arguments of a stage that change its weights.

    When held-out rows are scored changes none, unless the schedule or the choice of a checkpoint reads the scores.
    """
    given = {name: value for name, value in (config.trainer | stage.trainer).items() if name not in MACHINE}
    is_read = given.get("load_best_model_at_end") or config.optimization.lr_scheduler_type in METRIC_SCHEDULES
    return given if is_read else {name: value for name, value in given.items() if name not in EVALUATION}


def aligned_stages(config: RunConfig) -> dict[str, StageConfig]:
    """Return the stages that have a criterion, by name, in order."""
    return {name: stage for name, stage in config.stages.items() if stage.criterion is not None}


def find_missing_inputs(config: RunConfig, name: str, stage: StageConfig) -> Iterator[str]:
    """Yield a sentence for what a stage's loss or pairing reads and lacks: a field of its criterion, a stage before."""
    criterion, loss = stage.criterion, loss_of(stage)
    if criterion is not None and (loss.reads_flags or criterion.pairing != Pairing.preferred):
        reader = loss.title if loss.reads_flags else f"`stages.{name}.criterion.pairing={criterion.pairing.value}`"
        for field in (field for field in ("preferred", "acceptable") if getattr(criterion, field) is None):
            yield f"{reader} needs `stages.{name}.criterion.{field}`, which is null. Try: criterion=[mixed]"
    if loss.reads_guides and next(iter(aligned_stages(config)), name) == name:
        reason = f"uses {loss.title}, which learns from the stages before it, but is the first"
        yield f"`stages.{name}` {reason}. Try: experiment=design/pecan"


def per_device_batch_size(config: RunConfig, stage: StageConfig) -> int:
    """Return the rows per device and pass: what the hardware takes, or all of a smaller global batch."""
    share = (stage.global_batch_size or 1) // config.hardware.processes
    return max(1, min(config.hardware.per_device_train_batch_size, share))


def known_criteria(config: RunConfig) -> dict[str, Criterion]:
    """Return the criteria that `evaluated` can name, by name: those of stages and those of `criteria`."""
    known = {name: entry.criterion for name, entry in config.criteria.items()}
    return known | {name: stage.criterion for name, stage in config.stages.items() if stage.criterion is not None}


def evaluated_criteria(config: RunConfig) -> list[Criterion]:
    """Return the criteria that judges score, in the order of `evaluated`."""
    known = known_criteria(config)
    return [known[name] for name in config.evaluated]


def merge_weights(config: RunConfig) -> tuple[float, ...] | None:
    """Return one weight per merged policy, earlier ones first; None if nothing is merged."""
    if config.merge_weights is not None:
        return tuple(config.merge_weights)
    return None if config.merge_ratio is None else (1 - config.merge_ratio, config.merge_ratio)


def policy_of(place: int) -> str:
    """Return the name of the policy that the stage at a place makes: `first`, `second`, …"""
    return PLACES[place] if place < len(PLACES) else f"stage_{place + 1}"


def policy_names(config: RunConfig) -> list[str]:
    """Return the names of the policies in a plan of this configuration, in order of making."""
    made = [policy_of(place) for place in range(len(aligned_stages(config)))]
    return ["baseline", *others_of(config), *made, *(["merged"] if merge_weights(config) is not None else [])]


def others_of(config: RunConfig) -> dict[str, ModelConfig]:
    """Return the models of `others` by policy name, the last part of their path; they use the template of `model`."""
    return dict(read_other(config.model, text) for text in config.others)


def datasets_of(config: RunConfig) -> dict[str, DatasetConfig]:
    """Return the datasets of a run by their keys: its own, and those of stages and of criteria that are scored."""
    datasets = {"dataset": config.dataset}
    datasets |= {f"stages.{name}.dataset": stage.dataset for name, stage in config.stages.items() if stage.dataset}
    scored = {name: config.criteria[name] for name in config.evaluated if name in config.criteria}
    return datasets | {f"criteria.{name}.dataset": entry.dataset for name, entry in scored.items() if entry.dataset}


def models_of(config: RunConfig) -> dict[str, ModelConfig]:
    """Return the models of a run by their keys: the one that is aligned, and those that the judge loads."""
    judge, models = config.judge, {"model": config.model}
    if isinstance(judge, ScorerJudgeConfig):
        models["judge.encoder"] = judge.encoder
    if isinstance(judge, RewardModelJudgeConfig):
        models |= {f"judge.heads.{name}.model": head.model for name, head in judge.heads.items()}
    return models


def read_other(model: ModelConfig, text: str) -> tuple[str, ModelConfig]:
    """Return (name, model) of one entry of `others`: a folder, OWNER/NAME or OWNER/NAME@COMMIT."""
    source, path, revision = ModelSource.path, text, None
    if not is_model_folder(text) and (match := REPOSITORY.fullmatch(text)):
        source, path, revision = ModelSource.hub, match["path"], match["revision"] or "main"
    name = Path(path).expanduser().name
    return name, replace(model, name=name, source=source, path=path, revision=revision, file=None)
