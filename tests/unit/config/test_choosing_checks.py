"""Settings of a choice; what is refused is in `test_validation.py`."""

from collections.abc import Callable
from typing import Any

import pytest

Problems = Callable[..., list[str]]


def test_the_threshold_has_to_be_given(problems_of: Problems) -> None:
    assert problems_of(command="choose") == ["`threshold` has no value. Try: threshold=..."]


@pytest.mark.parametrize(
    ("overrides", "is_sequence"),
    [
        ([], True),
        (["over=beta"], True),
        (["max_over_refusal=0.1"], False),  # which is worst at the safe end
        (["++thresholds={helpfulness:0.4}"], False),  # which pulls from the other end
        (["constraint=helpfulness", "maximise=safety"], True),
        (["over=policies", "grid=[A,B]"], False),  # none is known to be the safest
        (["procedure=holm"], False),
        (["max_over_refusal=0.1", "procedure=fixed_sequence"], True),
    ],
)
def test_policies_are_tested_in_sequence_where_one_end_is_known_to_be_safe(
    configure: Callable[..., Any], overrides: list[str], is_sequence: bool
) -> None:
    assert configure("threshold=0.6", *overrides, command="choose").is_sequence is is_sequence
