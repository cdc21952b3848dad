"""What trackers are told of a stage: recipe, labels and lineage from the plan, and no more than these. Pure."""

from collections.abc import Set as AbstractSet

from sacpo_exp.config.schema import RunConfig
from sacpo_exp.config.tracking import TrackedRun
from sacpo_exp.plan import Plan, Stage, policy_of_spec


def track_stage(config: RunConfig, plan: Plan, stage: Stage, made: AbstractSet[str] = frozenset()) -> TrackedRun:
    """The run of one stage. Stages before it are its parents and have runs of their own, perhaps of another sweep.

    Args:
        made: ids of what this command has made; the stages before this one that are not among them are `reused`.
    """
    policy = policy_of_spec(stage.artifact)
    before = [other for other in plan.stages if _is_before(other, stage, plan)]
    columns = {name: value for name, value in policy.columns.items() if value is not None}
    told = columns | {
        "stage": stage.name,
        "loss": stage.config.loss.name,
        "recipe": stage.artifact.recipe,
        "lineage": {other.name: other.artifact.id for other in before} | {"model": plan.model.id},
        "reused": [other.artifact.id for other in before if other.artifact.id not in made],
        "hardware": {"name": config.hardware.name, "processes": config.hardware.processes},
    }
    names = ("order", "objective", "stage", "loss", "criterion", "model", "dataset")
    tags = list(dict.fromkeys(str(told[name]) for name in names if name in told))
    parents = {stage.parent.id: "policy", stage.data.id: "dataset"}
    is_last = stage is plan.stages[-1]
    return TrackedRun(stage.artifact.id, "stage", tags, told, parents, is_last)


def _is_before(other: Stage, stage: Stage, plan: Plan) -> bool:
    """Whether `other` is an ancestor of `stage`; naive merging has two first stages side by side."""
    parents = {entry.artifact.id: entry.parent.id for entry in plan.stages}
    ancestor = parents.get(stage.artifact.id)
    while ancestor is not None and ancestor != other.artifact.id:
        ancestor = parents.get(ancestor)
    return ancestor is not None
