"""What `dry_run=true` leaves of a plan in its job's folder, and what several of them are together."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sacpo_exp.errors import ConfigError
from sacpo_exp.evaluation.judges.costs import CostEstimate, add_up, describe_cost

NAME = "plan.json"


@dataclass(frozen=True)
class PlannedStage:
    """A stage by its artifact id.

    Attributes:
        is_made: stored, or in the mirror.
        hours: of one GPU, if it is to be made; None where nobody knows.
    """

    id: str
    is_made: bool
    hours: float | None


@dataclass(frozen=True)
class JobPlan:
    """One job.

    Attributes:
        hardware: its group, with the throughput that hours are counted with, for people.
        stages: all that its policies descend from, in order of making.
        judge: model that is asked; None for a judge that needs no calls.
        prices: where its price is from.
        calls: cost by match, under a key that the same match has in any job.
    """

    hardware: str
    stages: tuple[PlannedStage, ...]
    judge: str | None = None
    prices: str = ""
    calls: dict[str, CostEstimate] = field(default_factory=dict)


def leave_plan(plan: JobPlan, folder: str | None) -> None:
    """Write the plan into the job's folder (`config.paths.run`), if it has one."""
    if folder is not None:
        (Path(folder) / NAME).write_text(json.dumps(asdict(plan), indent=1), "utf-8")


def read_plans(folders: Iterable[Path]) -> list[JobPlan]:
    """All plans in and below the folders, in order of their paths; none where nothing was planned.

    Raises:
        ConfigError: a file is no plan.
    """
    return [_read(path) for folder in folders for path in sorted(folder.rglob(NAME))]


def _read(path: Path) -> JobPlan:
    try:
        entries = json.loads(path.read_text("utf-8"))
        stages = tuple(PlannedStage(**stage) for stage in entries["stages"])
        calls = {key: CostEstimate(**cost) for key, cost in entries["calls"].items()}
        return JobPlan(**entries | {"stages": stages, "calls": calls})
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path} is not a plan that a dry run wrote: {error}") from error


def describe_totals(plans: Sequence[JobPlan]) -> Iterator[str]:
    """Lines: stages with what sharing saves, hours, and calls of judges. What several jobs share counts once.

    Of a single job calls are left out, as its plan has said them.
    """
    stages = {stage.id: stage for plan in plans for stage in plan.stages}
    made = sum(stage.is_made for stage in stages.values())
    alone = sum(len(plan.stages) for plan in plans)
    shared = f"; a script that goes path by path would train {alone}" if len(plans) > 1 else ""
    if stages:
        yield f"in all   {len(stages)} stages, {made} stored, {len(stages) - made} to train{shared}"
    yield from _describe_hours(plans, [stage for stage in stages.values() if not stage.is_made])
    if len(plans) == 1:
        return
    for judge, prices in dict.fromkeys((plan.judge, plan.prices) for plan in plans if plan.judge):
        calls = {key: cost for plan in plans if plan.judge == judge for key, cost in plan.calls.items()}
        yield describe_cost(add_up(calls.values()), str(judge), prices)


def _describe_hours(plans: Sequence[JobPlan], stages: Sequence[PlannedStage]) -> Iterator[str]:
    known = [stage.hours for stage in stages if stage.hours is not None]
    if known:
        hardware = ", ".join(dict.fromkeys(plan.hardware for plan in plans))
        yield f"         about {sum(known):.1f} GPU hours of training with {hardware}"
    if unknown := len(stages) - len(known):
        yield f"         how long {unknown} of them take is not known"
