"""Every schema: how it is told, what its rows become, and the exact words about those that can't be used."""

from typing import Any

import pytest
from rows import turns

from sacpo_exp.config.data import DataSchema, DatasetConfig, OnBadRow
from sacpo_exp.data.checks import PKU_FIELDS
from sacpo_exp.data.files import RawRows
from sacpo_exp.data.forms import normalise
from sacpo_exp.data.preferences import Preferences
from sacpo_exp.errors import DataError

PKU: dict[str, Any] = dict(zip(PKU_FIELDS, ("Hi?", "zero", "one", False, True, 0, 1), strict=True))
PAIR = {"prompt": "Hi?", "chosen": "good", "rejected": "bad"}
COMPLETION = {"prompt": "Hi?", "completion": "good", "label": True}
HH = {
    "chosen": "\n\nHuman: Hi?\n\nAssistant: Hello\nyou!\n\nHuman: Bye?\n\nAssistant: good",
    "rejected": "\n\nHuman: Hi?\n\nAssistant: Hello\nyou!\n\nHuman: Bye?\n\nAssistant:  bad ",
}
SHAREGPT = {
    "conversations": [{"from": "system", "value": "Be kind."}, {"from": "human", "value": "Hi?"}],
    "chosen": {"from": "gpt", "value": "good"},
    "rejected": {"from": "gpt", "value": "bad"},
}


def read(*rows: Any, is_text: bool = False, **options: Any) -> Preferences:
    dataset = DatasetConfig(name="local", **{"criterion": "safety"} | options)
    return normalise([RawRows("file.json", list(enumerate(rows, 1)), is_text)], dataset)


def complaint(*rows: Any, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(*rows, **options)
    return str(caught.value)


GOOD, BAD = turns("good", "assistant"), turns("bad", "assistant")
HELLO = [*turns("Hi?"), *turns("Hello\nyou!", "assistant"), *turns("Bye?")]
NORMAL: dict[str, tuple[dict[str, Any], DataSchema, DataSchema, dict[str, Any]]] = {
    "pku with more": (PKU | {"category": "x", "kind": None}, DataSchema.pku, DataSchema.pku, PKU),
    "prompt and whole dialogues": (
        {"prompt": "Hi?", "chosen": [*turns("Hi?"), *GOOD], "rejected": [*turns("Hi?"), *BAD]},
        DataSchema.pairs,
        DataSchema.pairs,
        {"prompt": turns("Hi?"), "chosen": GOOD, "rejected": BAD},
    ),
    "hh, two turns in a row": (
        {name: text.replace("you!", "you!\n\nAssistant: Well?") for name, text in HH.items()},
        DataSchema.hh,
        DataSchema.pairs,
        {"prompt": [HELLO[0], *turns("Hello\nyou!\n\nWell?", "assistant"), HELLO[2]], "chosen": GOOD, "rejected": BAD},
    ),
}


@pytest.mark.parametrize(("row", "detected", "form", "expected"), NORMAL.values(), ids=list(NORMAL))
def test_a_row_is_read(row: dict[str, Any], detected: DataSchema, form: DataSchema, expected: dict[str, Any]) -> None:
    criterion = None if form == DataSchema.pku else "safety"
    assert read(row) == Preferences(form, detected, criterion, (expected,)) == read(row, schema=detected)


HARM = {"response_0_harm_category": {"Theft": True, "Abuse": True}, "response_1_harm_category": {"Theft": False}}
EXTRAS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "harm": (HARM, {"categories": ["Abuse", "Theft"]}),
    "no harm": ({name: {"Theft": False} for name in HARM}, {"categories": []}),
    "list": ({"categories": ["b", "a", "b"]}, {"categories": ["a", "b"]}),
    "null": (dict.fromkeys([*HARM, "categories"]), {}),
}


def test_harm_categories_are_kept() -> None:
    for given, kept in EXTRAS.values():
        assert read(PKU | given).rows == (PKU | kept,)


def test_cells_of_a_table_are_read_by_the_schema() -> None:
    cells = {name: str(value) for name, value in PKU.items()} | {"is_response_0_safe": "0", "note": ""}
    more = {"response_0_harm_category": '{"Theft": true}'}
    assert read(cells, is_text=True).rows == (PKU,)
    assert "row 1: `better_response_id` is missing" in complaint(cells | {"better_response_id": ""}, is_text=True)
    assert read(cells | more, is_text=True).rows == (PKU | {"categories": ["Theft"]},)
    flags = [read({"prompt": "1", "completion": "true", "label": text}, is_text=True).rows[0] for text in "01"]
    assert [flag["label"] for flag in flags] == [False, True]
    assert flags[0]["completion"] == turns("true", "assistant")


def test_fields_of_other_names_are_told() -> None:
    row = {"question": "Hi?", "prompt": "not this", "win": "good", "lose": "bad"}
    fields = {"prompt": "question", "chosen": "win", "rejected": "lose"}
    assert read(row, fields=fields) == read(PAIR)
    del row["question"]
    assert complaint(row, fields=fields, schema=DataSchema.pairs).endswith("row 1: `question` is missing")
    chat = row | {"question": [{"role": "user", "content": ""}]}
    assert complaint(chat, fields=fields).splitlines()[1] == ("row 1: `question[0].content` must be a text, but is ''")


def test_an_unknown_name_or_schema_is_refused_with_what_is_known() -> None:
    message = complaint(PAIR, fields={"promt": "question"})
    assert message.startswith(
        "`dataset.fields` renames `promt`, which no schema has; the fields are prompt, response_0,"
    )
    message = complaint({"prompt": "Hi?", "question": 1})
    assert message.startswith("file.json has no known schema: its first row has the fields prompt, question.")
    assert "  unpaired: prompt, completion, label\n" in message
    assert message.endswith("Try: +dataset.fields.prompt=NAME_IN_FILE")


@pytest.mark.parametrize("row", [PAIR, COMPLETION, HH, SHAREGPT], ids=["pairs", "unpaired", "hh", "sharegpt"])
def test_one_criterion_has_to_be_named(row: Any) -> None:
    schema = read(row).detected.value
    message = complaint(row, criterion=None)
    assert message.startswith(f"file.json has the schema {schema}, whose labels are about one criterion")
    assert message.endswith("Try: dataset.criterion=helpfulness or dataset.criterion=safety")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "half a surrogate pair": (PAIR | {"chosen": "so \ud83d it is"}, "`chosen` must be valid Unicode, but has 'so "),
    "flag as id": (PKU | {"better_response_id": True}, "`better_response_id` must be 0 or 1, but is True"),
    "unknown role": (PAIR | {"prompt": [{"role": "tool", "content": "x"}]}, "`prompt[0].role` must be one of system"),
    "two answers": (PAIR | {"chosen": [*GOOD, *turns("And?"), *GOOD]}, "`chosen` must be one message of the assistant"),
    "other dialogues": ({"chosen": [*HELLO, *GOOD], "rejected": [*turns("Hi?"), *BAD]}, "`chosen` and `rejected` must"),
    "hh, empty turn": (HH | {"chosen": "\n\nHuman: Hi?\n\nAssistant:"}, "`chosen` has an empty turn of Assistant"),
}


@pytest.mark.parametrize(("row", "problem"), WRONG.values(), ids=list(WRONG))
def test_a_bad_row_is_shown(row: dict[str, Any], problem: str) -> None:
    first, line, *rest = complaint(row).splitlines()
    assert first == "file.json has rows that can't be used:"
    assert line.startswith(f"row 1: {problem}")
    assert len(line) < 250
    assert len(rest) == ("response_0" not in row)


def test_five_of_several_files_are_shown() -> None:
    rows = [(n, PKU if n == 2 else 7) for n in range(1, 5)]
    sources = [RawRows(name, rows) for name in ("a.json", "b.json", "c.json")]
    with pytest.raises(DataError) as caught:
        normalise(sources, DatasetConfig(name="local"))
    problem = "must be an object, but is int"
    assert str(caught.value).splitlines() == [
        "a.json has rows that can't be used:",
        *(f"row {number}: {problem}" for number in (1, 3, 4)),
        "b.json has rows that can't be used:",
        *(f"row {number}: {problem}" for number in (1, 3)),
        "… and 4 more",
    ]
    assert "more" not in complaint(*[7] * 5)
    skipping = DatasetConfig(name="local", on_bad_row=OnBadRow.skip)
    assert normalise(sources, skipping) == Preferences(DataSchema.pku, DataSchema.pku, None, (PKU,) * 3, 9)
