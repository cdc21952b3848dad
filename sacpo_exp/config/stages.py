"""Stages of a configuration: what their files leave open is filled in by their place in the order."""

from typing import Any

from omegaconf import DictConfig

from sacpo_exp.config.schema import RunConfig, StageConfig
from sacpo_exp.errors import ConfigError
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.method.losses import LOSSES, Loss

#: Names of places in the order, for `stage_defaults` and for policies.
PLACES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
NUMBERS = ("global_batch_size", "learning_rate", "num_train_epochs")


def fill_stages(composed: DictConfig) -> DictConfig:
    """Return the composed configuration with a loss, β and numbers for every stage.

    A value of `stages.NAME` wins over `losses`, `earlier_betas` and `beta`, and these over `stage_defaults`.

    Raises:
        ConfigError: `losses` is empty where there are stages, or a loss does not exist.
    """
    if "stages" not in composed:
        return composed
    filled = composed.copy()
    aligned = [name for name, stage in filled.stages.items() if stage.criterion is not None]
    for name, stage in filled.stages.items():
        place = aligned.index(name) if name in aligned else None
        defaults = filled.stage_defaults.get(_key(place, filled.stage_defaults))
        for key in NUMBERS:
            if stage[key] is None and defaults is not None:
                stage[key] = defaults[key]
        if place is not None:
            stage.loss.name = stage.loss.name or _at(filled.losses, place, "losses")
            if stage.beta is None:
                is_last = place == len(aligned) - 1
                stage.beta = filled.beta if is_last or not filled.earlier_betas else _at(filled.earlier_betas, place)
        if stage.loss.name not in LOSSES:
            key = "losses" if stage.loss.name in filled.losses else f"stages.{name}.loss.name"
            raise ConfigError(f"`{key}` must be of {', '.join(LOSSES)}, but is {stage.loss.name}.")
        for key, value in LOSSES[stage.loss.name].settings.items():
            if stage.loss[key] is None:
                stage.loss[key] = value
    return filled


def _key(place: int | None, defaults: DictConfig) -> str:
    """Key of `stage_defaults` for the stage at this place; None is supervised fine-tuning."""
    if place is None:
        return "sft"
    there = [name for name in PLACES if name in defaults]
    return there[min(place, len(there) - 1)] if there else ""


def _at(values: Any, place: int, name: str = "earlier_betas") -> Any:
    """The value for a place; the last one repeats."""
    if not values:
        raise ConfigError(f"`{name}` must have a value for each stage, but is empty. Try: {name}=[dpo]")
    return values[min(place, len(values) - 1)]


def loss_of(stage: StageConfig) -> Loss:
    """The row of `LOSSES` of a filled stage."""
    return LOSSES[stage.loss.name or ""]


def aligned_stages(config: RunConfig) -> dict[str, StageConfig]:
    """Stages that have a criterion, by name, in order."""
    return {name: stage for name, stage in config.stages.items() if stage.criterion is not None}


def known_criteria(config: RunConfig) -> dict[str, Criterion]:
    """Criteria of the stages and those that `evaluated` can name besides, by name."""
    known = {name: entry.criterion for name, entry in config.criteria.items()}
    return known | {name: stage.criterion for name, stage in config.stages.items() if stage.criterion is not None}


def evaluated_criteria(config: RunConfig) -> list[Criterion]:
    """The criteria that judges score, in the order of `evaluated`."""
    known = known_criteria(config)
    return [known[name] for name in config.evaluated]


def merge_weights(config: RunConfig) -> tuple[float, ...] | None:
    """One weight per merged policy, earlier ones first; None if nothing is merged."""
    if config.merge_weights is not None:
        return tuple(config.merge_weights)
    return None if config.merge_ratio is None else (1 - config.merge_ratio, config.merge_ratio)


def policy_of(place: int) -> str:
    """Name of the policy that the stage at a place makes: `first`, `second`, …"""
    return PLACES[place] if place < len(PLACES) else f"stage_{place + 1}"
