"""What trackers are told of a stage: recipe, labels and lineage from the plan, and no more than these. Pure."""

from collections.abc import Set as AbstractSet
from typing import Any

from sacpo_exp.config.schema import RunConfig, StageConfig
from sacpo_exp.config.tracking import TrackedRun
from sacpo_exp.config.validation import stages_of
from sacpo_exp.plan import Plan, Stage


def track_stage(config: RunConfig, plan: Plan, stage: Stage, made: AbstractSet[str] = frozenset()) -> TrackedRun:
    """The run of one stage. Stages before it are its parents and have runs of their own, perhaps of another sweep.

    Args:
        made: ids of what this command has made; the stages before this one that are not among them are `reused`.
    """
    order, objective = name_order(config), name_objective(config)
    before = [other for other in plan.stages if _is_before(other, stage, plan)]
    labels = stage.artifact.labels
    said: dict[str, Any] = {
        "order": order,
        "objective": objective,
        "stage": stage.name,
        "loss": stage.config.loss.name.value,
        "model": config.model.name,
        "dataset": stage.dataset.name,
        "policy": labels["policy"],
        "recipe": stage.artifact.recipe,
        "lineage": {other.name: other.artifact.id for other in before} | {"model": plan.model.id},
        "reused": [other.artifact.id for other in before if other.artifact.id not in made],
        "hardware": {"name": config.hardware.name, "processes": config.hardware.processes},
    }
    tags = [order, objective, stage.name, stage.config.loss.name.value]
    if isinstance(stage.config, StageConfig):
        said |= {"criterion": stage.config.criterion.value, "beta": stage.config.beta}
        tags.append(stage.config.criterion.value)
    tags += [config.model.name, stage.dataset.name]
    parents = {stage.parent.id: "policy", stage.data.id: "dataset"}
    is_last = stage is plan.stages[-1]
    return TrackedRun(stage.artifact.id, "stage", list(dict.fromkeys(tags)), said, parents, is_last)


def name_order(config: RunConfig) -> str:
    """The option of `order` that gives these criteria."""
    if config.stages.first is None:
        return "none"
    short = {"helpfulness": "helpful", "safety": "safety"}[config.stages.first.criterion.value]
    return f"{short}_first" if config.stages.second else f"{short}_only"


def name_objective(config: RunConfig) -> str:
    """The losses of the stages that prefer, in order: `dpo`, `dpo_then_kto`."""
    losses = [stage.loss.name.value for _, stage in stages_of(config) if isinstance(stage, StageConfig)]
    return "_then_".join(dict.fromkeys(losses))


def _is_before(other: Stage, stage: Stage, plan: Plan) -> bool:
    """Whether `other` is an ancestor of `stage`; naive merging has two first stages side by side."""
    parents = {entry.artifact.id: entry.parent.id for entry in plan.stages}
    ancestor = parents.get(stage.artifact.id)
    while ancestor is not None and ancestor != other.artifact.id:
        ancestor = parents.get(ancestor)
    return ancestor is not None
