"""Operations and hours of a stage, against arithmetic by hand."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sacpo_exp.reporting.compute_plan import Reading, count_active, count_operations, device_hours

#: 3 dialogues of 5 tokens by 7 parameters: 105 multiplications and additions for one pass.
READING, PARAMETERS = Reading(3, 5), 7
PASS = 2 * 3 * 5 * 7


@pytest.fixture
def stages(configure: Callable[..., Any]) -> dict[str, Any]:
    """One epoch of supervised fine-tuning, DPO and KTO."""
    config = configure("objective=dpo_then_kto")
    return {stage.loss.name: replace(stage, num_train_epochs=2) for stage in config.stages.values()}


#: Passes over all data in two epochs: forward and twice as much backward; the reference once; KTO's KL in each.
@pytest.mark.parametrize(("loss", "passes"), [("sft", 2 * 3), ("dpo", 2 * 3 + 1), ("kto", 2 * (3 + 1) + 2)])
def test_passes_of_a_loss_are_counted(stages: dict[str, Any], loss: str, passes: int) -> None:
    assert count_operations(stages[loss], READING, PARAMETERS, is_checkpointed=False) == passes * PASS
    assert count_operations(stages[loss], READING, PARAMETERS, is_checkpointed=True) == (passes + 2) * PASS


def test_hours_are_operations_by_the_share_of_the_peak() -> None:
    assert device_hours(3600 * 156e12, peak_tflops=312, utilisation=0.5) == pytest.approx(1)


def test_an_embedding_that_is_only_looked_up_is_no_work(configure: Callable[..., Any]) -> None:
    alpaca = configure("model=alpaca_7b").model
    assert count_active(alpaca) == 6_738_423_808 - 32_001 * 4096
    assert count_active(configure("model=pythia_6_9b").model) == 6_857_302_016
    tied = configure("model=nano").model
    untied = replace(tied, shape=replace(tied.shape, tie_word_embeddings=False))
    assert count_active(tied) == count_active(untied)  # the same matrix is the head
    assert count_active(replace(tied, shape=None)) is None
