"""Made-up sweeps, worked off in made-up time."""

import heapq

import pytest

from sacpo_exp.cluster.schedule import Missing, Schedule, Unit, divide, least_seconds

#: 4 β × 2 orders: two first stages, eight second ones.
SWEEP = {
    number: [Missing(f"{order}1", "model"), Missing(f"{order}2-{beta}", f"{order}1")]
    for number, (beta, order) in enumerate((beta, order) for beta in range(4) for order in "hs")
}
WITH_BASE = {
    number: [Missing("base", "model"), Missing(stages[0].id, "base"), stages[1]] for number, stages in SWEEP.items()
}
#: One long chain that has to start at once, beside much that has not.
UNEVEN = {0: [Missing("a", "model"), Missing("b", "a"), Missing("c", "b"), Missing("d", "c")]} | {
    number: [Missing(f"x{number}", "model")] for number in range(1, 6)
}


def stage_of(unit: Unit, jobs: dict[int, list[Missing]]) -> str:
    """What a unit makes; the end of a job whose stages are all units of their own makes nothing."""
    return unit.stage or next((s.id for s in reversed(jobs[unit.job]) if s.id not in unit.needs), "")


def work_off(jobs: dict[int, list[Missing]], slots: int, seconds: dict[str, float]) -> tuple[float, list[str], int]:
    """(end, stages in order of their start, most units at work at a time)."""
    schedule, running, clock, begun, most = Schedule(divide(jobs)), [], 0.0, [], 0
    while True:
        while len(running) < slots and (unit := schedule.take()) is not None:
            stage = stage_of(unit, jobs)
            begun.append(stage)
            heapq.heappush(running, (clock + seconds.get(stage, 0.0), len(begun), unit))
        most = max(most, len(running))
        if not running:
            return clock, [stage for stage in begun if stage], most
        clock, _, done = heapq.heappop(running)
        schedule.finish(done)


@pytest.mark.parametrize("slots", [1, 2, 3, 8])
@pytest.mark.parametrize("jobs", [SWEEP, WITH_BASE, UNEVEN])
def test_every_stage_is_made_once_on_no_more_than_the_slots(jobs: dict[int, list[Missing]], slots: int) -> None:
    stages = {stage.id for chain in jobs.values() for stage in chain}
    _, begun, most = work_off(jobs, slots, dict.fromkeys(stages, 1.0))
    assert sorted(begun) == sorted(stages)
    assert most <= slots


def test_shared_stages_come_first() -> None:
    _, begun, _ = work_off(SWEEP, 2, dict.fromkeys([s.id for chain in SWEEP.values() for s in chain], 1.0))
    assert begun[:2] == ["h1", "s1"]


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("jobs", [SWEEP, WITH_BASE, UNEVEN])
def test_no_slot_idles_while_work_could_be_done(jobs: dict[int, list[Missing]], slots: int) -> None:
    parents = {stage.id: stage.parent for chain in jobs.values() for stage in chain}
    seconds = {stage: 10.0 + 3 * (position % 3) for position, stage in enumerate(parents)}
    end, _, _ = work_off(jobs, slots, seconds)
    assert end <= 1.3 * least_seconds(seconds, parents, slots)


def test_the_least_time_is_the_longest_chain_or_the_even_spread() -> None:
    parents = {"a": "model", "b": "a", "x": "model"}
    assert least_seconds({"a": 2, "b": 3, "x": 1}, parents, 2) == 5
    assert least_seconds({"a": 1, "b": 1, "x": 6}, parents, 1) == 8


def test_a_failed_stage_takes_only_what_needs_it() -> None:
    schedule = Schedule(divide(WITH_BASE))
    base = schedule.take()
    assert base is not None
    assert base.stage == "base"
    assert schedule.take() is None
    schedule.finish(base)
    first, other = schedule.take(), schedule.take()
    assert first is not None
    assert other is not None
    lost = schedule.fail(first)
    assert sorted(unit.job for unit in lost) == [0, 2, 4, 6]
    assert schedule.take() is None  # the other first stage is still being made
    schedule.finish(other)
    assert {unit.job for unit in iter(schedule.take, None)} == {1, 3, 5, 7}


def test_a_failed_base_takes_everything() -> None:
    schedule = Schedule(divide(WITH_BASE))
    base = schedule.take()
    assert base is not None
    lost = schedule.fail(base)
    assert len(lost) == len(set(lost)) == 2 + 8
    assert schedule.take() is None


def test_a_job_that_lacks_nothing_has_an_end_of_its_own() -> None:
    assert divide({3: []}) == [Unit(3, None, frozenset())]
