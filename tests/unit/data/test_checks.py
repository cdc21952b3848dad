"""Checks of rows in the PKU-SafeRLHF schema, with their exact words."""

from typing import Any

import pytest
from rows import check_rows, make_row

from sacpo_exp.errors import DataError

FIELDS = list(make_row())


@pytest.mark.parametrize("field", FIELDS)
def test_a_missing_field_is_named(field: str) -> None:
    row = make_row()
    del row[field]
    with pytest.raises(DataError) as caught:
        check_rows([make_row(), row], "file.json")
    assert str(caught.value) == f"file.json has rows that can't be used:\nrow 2: `{field}` is missing"


WRONG = {
    "null text": ("prompt", None, "`prompt` must be a text, but is None"),
    "empty text": ("response_0", "", "`response_0` must be a text, but is ''"),
    "blank text": ("response_1", " \n", "`response_1` must be a text, but is ' \\n'"),
    "number as text": ("prompt", 7, "`prompt` must be a text, but is 7"),
    "text as flag": ("is_response_0_safe", "yes", "`is_response_0_safe` must be true or false, but is 'yes'"),
    "null flag": ("is_response_1_safe", None, "`is_response_1_safe` must be true or false, but is None"),
    "number as flag": ("is_response_1_safe", 1, "`is_response_1_safe` must be true or false, but is 1"),
    "third id": ("better_response_id", 2, "`better_response_id` must be 0 or 1, but is 2"),
    "null id": ("safer_response_id", None, "`safer_response_id` must be 0 or 1, but is None"),
    "text as id": ("safer_response_id", "1", "`safer_response_id` must be 0 or 1, but is '1'"),
    "flag as id": ("better_response_id", True, "`better_response_id` must be 0 or 1, but is True"),
    "fraction as id": ("better_response_id", 1.0, "`better_response_id` must be 0 or 1, but is 1.0"),
    "list as id": ("better_response_id", [0], "`better_response_id` must be 0 or 1, but is [0]"),
}


@pytest.mark.parametrize(("field", "value", "problem"), WRONG.values(), ids=list(WRONG))
def test_a_wrong_value_is_shown(field: str, value: Any, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        check_rows([make_row() | {field: value}], "file.json")
    assert str(caught.value) == f"file.json has rows that can't be used:\nrow 1: {problem}"


@pytest.mark.parametrize(("row", "kind"), [("text", "str"), ([1], "list"), (None, "NoneType")])
def test_a_row_that_is_no_object_is_shown(row: Any, kind: str) -> None:
    with pytest.raises(DataError, match=f"row 1: must be an object, but is {kind}$"):
        check_rows([row], "file.json")


def test_five_offenders_are_shown_and_the_rest_is_counted() -> None:
    rows = [make_row() if number == 3 else {} for number in range(1, 10)]
    with pytest.raises(DataError) as caught:
        check_rows(rows, "file.json")
    shown = [f"row {number}: `prompt` is missing" for number in (1, 2, 4, 5, 6)]
    assert str(caught.value).splitlines() == ["file.json has rows that can't be used:", *shown, "… and 3 more"]


def test_exactly_five_offenders_leave_nothing_to_count() -> None:
    with pytest.raises(DataError) as caught:
        check_rows([{}] * 5, "file.json")
    assert "more" not in str(caught.value)


def test_a_file_without_rows_is_refused() -> None:
    with pytest.raises(DataError, match=r"^file\.json holds no rows\.$"):
        check_rows([], "file.json")


def test_sound_rows_pass_whatever_else_they_hold() -> None:
    check_rows([make_row(), make_row() | {"category": "x", "extra": None}], "file.json")
