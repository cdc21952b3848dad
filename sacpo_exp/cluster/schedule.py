"""Which piece of a sweep's work starts next: shared stages first and once. Pure.

No launcher of Hydra's does this: joblib's runs jobs side by side, but gives them the same GPUs and knows nothing of
what they share, so a job that waits for another's stage holds a worker.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Missing:
    """A stage that is not stored yet, by its artifact id, and the one that it starts from."""

    id: str
    parent: str


@dataclass(frozen=True)
class Unit:
    """What a slot does in one go: make one stage, or bring a job to its end.

    Attributes:
        job: its number; of a stage, the first that wants it.
        stage: artifact id of the stage to make; None: whatever the job still lacks.
        needs: stages of other units that have to be stored before.
    """

    job: int
    stage: str | None
    needs: frozenset[str]


def divide(jobs: Mapping[int, Sequence[Missing]]) -> list[Unit]:
    """Units for jobs, given by number with the stages that each lacks, in order of making.

    A stage is a unit of its own when several jobs want it or it is not its job's last; the last one of a job is made by
    the job itself.
    """
    wanted = Counter(stage.id for stages in jobs.values() for stage in stages)
    own: dict[str, Unit] = {}
    for number, stages in jobs.items():
        for stage in stages:
            if stage.id not in own and (wanted[stage.id] > 1 or stage is not stages[-1]):
                needs = {stage.parent} & own.keys()
                own[stage.id] = Unit(number, stage.id, frozenset(needs))
    ends = [
        Unit(number, None, frozenset(stage.id for stage in stages if stage.id in own))
        for number, stages in jobs.items()
    ]
    return [*own.values(), *ends]


class Schedule:
    """Units in a good order: those with the longest chain behind them first, then those that most others wait for."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self.total = len(units)
        self._waiting = sorted(units, key=lambda unit: (-_height(unit, units), -_followers(unit, units), unit.job))
        self._unmade = {unit.stage for unit in units if unit.stage is not None}

    def take(self) -> Unit | None:
        """The unit to start now; None if all that are left wait for running ones, or none is left."""
        for unit in self._waiting:
            if not unit.needs & self._unmade:
                self._waiting.remove(unit)
                return unit
        return None

    def finish(self, unit: Unit) -> None:
        """Its stage is stored: those that needed it may start."""
        self._unmade.discard(unit.stage)

    def fail(self, unit: Unit) -> list[Unit]:
        """Its stage will not be: give up, and return, the units that can't start without it."""
        lost = [waiting for waiting in self._waiting if unit.stage is not None and unit.stage in waiting.needs]
        self._waiting = [waiting for waiting in self._waiting if waiting not in lost]
        for waiting in list(lost):
            lost += [further for further in self.fail(waiting) if further not in lost]
        return lost


def least_seconds(seconds: Mapping[str, float], parents: Mapping[str, str], slots: int) -> float:
    """No schedule is faster: all work spread evenly, or the longest chain of stages one after another (Graham 1969)."""

    def chain(stage: str) -> float:
        parent = parents[stage]
        return seconds[stage] + (chain(parent) if parent in seconds else 0.0)

    return max(sum(seconds.values()) / slots, *(chain(stage) for stage in seconds))


def _height(unit: Unit, units: Sequence[Unit]) -> int:
    behind = [other for other in units if unit.stage is not None and unit.stage in other.needs]
    return 1 + max((_height(other, units) for other in behind), default=0)


def _followers(unit: Unit, units: Sequence[Unit]) -> int:
    return sum(unit.stage is not None and unit.stage in other.needs for other in units)
