"""Operations of a stage, against arithmetic by hand, and what the plans of several jobs add up to."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sacpo_exp.reporting.planning import PLAN, count_active, count_operations, print_totals

SHARED, STORED = {"shared": {"is_made": False, "hours": 2.0}}, {"stored": {"is_made": True, "hours": None}}
CALL = {"calls": 10, "prompt_tokens": 100, "completion_tokens": 1000, "usd": 0.5}


# Passes over all data in two epochs: forward and twice as much backward; the reference once; KTO's KL in each.
@pytest.mark.parametrize(("loss", "passes"), [("sft", 2 * 3), ("dpo", 2 * 3 + 1), ("kto", 2 * (3 + 1) + 2)])
def test_passes_of_a_loss_are_counted(configure: Any, loss: str, passes: int) -> None:
    stages = configure("objective=dpo_then_kto").stages.values()
    stage = replace(next(stage for stage in stages if stage.loss.name == loss), num_train_epochs=2)
    once = 2 * 15 * 7  # a multiplication and an addition for each of 15 tokens and 7 parameters
    assert count_operations(stage, 15, 7, is_checkpointed=False) == passes * once
    assert count_operations(stage, 15, 7, is_checkpointed=True) == (passes + 2) * once


def test_an_embedding_that_is_only_looked_up_is_no_work(configure: Any) -> None:
    assert count_active(configure("model=alpaca_7b").model) == 6_738_423_808 - 32_001 * 4096
    assert count_active(configure("model=pythia_6_9b").model) == 6_857_302_016
    tied = configure("model=nano").model
    untied = replace(tied, shape=replace(tied.shape, tie_word_embeddings=False))
    assert count_active(tied) == count_active(untied)  # the same matrix is the head
    assert count_active(replace(tied, shape=None)) is None


def total(folder: Path, capsys: pytest.CaptureFixture[str], *plans: dict[str, Any]) -> list[str]:
    for number, plan in enumerate(plans):
        (folder / str(number)).mkdir(parents=True)
        needed = {"hardware": "hardware=a100x8", "weights": {}, "checkpoint": 0}
        (folder / str(number) / PLAN).write_text(json.dumps(needed | plan))
    print_totals([folder])
    return capsys.readouterr().out.splitlines()


def test_what_jobs_share_counts_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = {"calls": 1, "prompt_tokens": 2, "completion_tokens": 3, "usd": 0.25}
    asking = {"judge": "judge", "prices": "prices of today", "calls": {"first": CALL}}
    first = {"stages": STORED | SHARED | {"a": {"is_made": False, "hours": 1.5}}} | asking
    other = {"stages": STORED | SHARED | {"b": {"is_made": False, "hours": None}}} | asking
    other["calls"] = {"first": CALL, "second": more}
    for plan, own in ((first, "a"), (other, "b")):
        plan |= {"weights": {"shared": 2e9, own: 2e9}, "checkpoint": 12e9}
    assert total(tmp_path, capsys, first, other) == [
        "in all   4 stages, 1 stored, 3 to train; a script that goes path by path would train 6",
        "         about 3.5 GPU hours of training with hardware=a100x8",
        "         how long 1 of them take is not known",
        "         6.0 GB of disk for 3 policies",
        "         and 24.0 GB for checkpoints of each job that runs at the same time",
        "judges   11 calls to judge: about 102 tokens in, at most 1,003 out; at most $0.75 (prices of today)",
    ]
    alone = {"stages": STORED | SHARED} | asking  # of one job only the stages are added up
    assert total(tmp_path / "alone", capsys, alone) == [
        "in all   2 stages, 1 stored, 1 to train",
        "         about 2.0 GPU hours of training with hardware=a100x8",
    ]
    print_totals([tmp_path / "nothing"])
    assert capsys.readouterr().out == ""
