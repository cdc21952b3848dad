"""What plans of several jobs add up to."""

from pathlib import Path

import pytest

from sacpo_exp.errors import ConfigError
from sacpo_exp.evaluation.judges.costs import CostEstimate
from sacpo_exp.reporting.totals import JobPlan, PlannedStage, describe_totals, leave_plan, read_plans

SHARED, STORED = PlannedStage("shared", False, 2.0), PlannedStage("stored", True, None)
FIRST = CostEstimate(10, 100, 1000, 0.5)


def make_plan(*stages: PlannedStage, **calls: CostEstimate) -> JobPlan:
    return JobPlan("hardware=a100x8", (STORED, SHARED, *stages), "judge" if calls else None, "prices of today", calls)


def test_what_jobs_share_counts_once() -> None:
    plans = [
        make_plan(PlannedStage("a", False, 1.5), first=FIRST, second=CostEstimate(1, 2, 3, 0.25)),
        make_plan(PlannedStage("b", False, 1.0), first=FIRST),
    ]
    assert list(describe_totals(plans)) == [
        "in all   4 stages, 1 stored, 3 to train; a script that goes path by path would train 6",
        "         about 4.5 GPU hours of training with hardware=a100x8",
        "judges   11 calls to judge: about 102 tokens in, at most 1,003 out; at most $0.75 (prices of today)",
    ]


def test_hours_and_prices_that_nobody_knows_are_said_to_be_unknown() -> None:
    plans = [make_plan(PlannedStage("a", False, None)), make_plan(first=CostEstimate(1, 2, 3, None))]
    assert list(describe_totals(plans))[1:] == [
        "         about 2.0 GPU hours of training with hardware=a100x8",
        "         how long 1 of them take is not known",
        "judges   1 calls to judge: about 2 tokens in, at most 3 out; the price of judge is not known",
    ]


def test_of_one_job_only_the_stages_are_left_to_say() -> None:
    assert list(describe_totals([make_plan(first=FIRST)])) == [
        "in all   2 stages, 1 stored, 1 to train",
        "         about 2.0 GPU hours of training with hardware=a100x8",
    ]
    assert list(describe_totals([JobPlan("hardware=cpu", ())])) == []


def test_a_job_leaves_its_plan_in_its_folder(tmp_path: Path) -> None:
    plans = [make_plan(first=FIRST), make_plan()]
    for number, plan in enumerate(plans):
        folder = tmp_path / str(number)
        folder.mkdir()
        leave_plan(plan, str(folder))
    leave_plan(plans[0], None)
    assert read_plans([tmp_path]) == plans


def test_a_file_that_is_no_plan_is_named(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"plan\.json is not a plan that a dry run wrote"):
        read_plans([tmp_path])
