"""Rows of every schema, which give exactly the expected views, and corruptions of them, of which none gets through."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import HELPFULNESS, SAFETY

from sacpo_exp.config.data import DataSchema, DatasetConfig, OnBadRow
from sacpo_exp.data.files import RawRows
from sacpo_exp.data.forms import FIELDS, OPTIONAL_FIELDS, normalise
from sacpo_exp.data.preferences import make_view
from sacpo_exp.errors import DataError
from sacpo_exp.method.losses import View

Said = list[dict[str, str]]


@dataclass(frozen=True)
class Example:
    """A raw row, the views it should give by (view, criterion), and for each field what must not stand in it."""

    raw: dict[str, Any]
    views: dict[tuple[str, str], list[dict[str, Any]]]
    wrong: dict[str, list[Any]]


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(str.strip)
#: What one side of an HH dialogue may say: nothing that would begin another turn, no white space at its ends.
sayings = texts.map(str.strip).filter(lambda text: "\n\n" not in text)
NO_TEXT = [None, "", " \n", 7, {}, [], [None], "\ud800", [{"role": "user"}], [{"role": [], "content": "x"}]]
NO_TURN = [[{"role": "user", "content": text}] for text in ("", None, "\udfff")]
NO_FLAG = [None, 0, 1, "true", "", [], 1.0]
NO_ID = [None, 2, -1, True, "0", 0.0, [], 10**30]


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def views_of_pair(prompt: Said, chosen: str, rejected: str) -> dict[tuple[str, str], list[dict[str, Any]]]:
    good, bad = [turn("assistant", chosen)], [turn("assistant", rejected)]
    completions = [{"prompt": prompt, "completion": said, "label": said is good} for said in (good, bad)]
    return {
        ("pairs", "safety"): [{"prompt": prompt, "chosen": good, "rejected": bad}],
        ("labels", "safety"): completions,
        ("responses", ""): [{"prompt": prompt, "completion": good}],
    }


@st.composite
def pku_rows(draw: st.DrawFn) -> Example:
    prompt, *responses = (draw(texts) for _ in range(3))
    safe, (better, safer) = draw(st.tuples(st.booleans(), st.booleans())), draw(st.tuples(*[st.integers(0, 1)] * 2))
    raw: dict[str, Any] = {"prompt": prompt, "better_response_id": better, "safer_response_id": safer}
    wrong: dict[str, list[Any]] = {"prompt": NO_TEXT, "better_response_id": NO_ID, "safer_response_id": NO_ID}
    for i in (0, 1):
        raw |= {f"response_{i}": responses[i], f"is_response_{i}_safe": safe[i]}
        wrong |= {f"response_{i}": NO_TEXT, f"is_response_{i}_safe": NO_FLAG}
    asked = [turn("user", prompt)]
    said = [[turn("assistant", response)] for response in responses]
    views = {("responses", ""): [{"prompt": asked, "completion": each} for each in said]}
    for criterion, preferred in (("helpfulness", better), ("safety", safer)):
        chosen, rejected = said if preferred == 0 else said[::-1]
        views["pairs", criterion] = [{"prompt": asked, "chosen": chosen, "rejected": rejected}]
        labels = safe if criterion == "safety" else (preferred == 0, preferred == 1)
        views["labels", criterion] = [
            {"prompt": asked, "completion": each, "label": label} for each, label in zip(said, labels, strict=True)
        ]
    return Example(raw, views, wrong)


@st.composite
def dialogues(draw: st.DrawFn, contents: st.SearchStrategy[str] = texts) -> Said:
    """What comes before an answer: perhaps a system message, and an odd number of turns."""
    count = draw(st.sampled_from([1, 3, 5]))
    return [turn("user" if i % 2 == 0 else "assistant", draw(contents)) for i in range(count)]


systems = st.one_of(st.just([]), texts.map(lambda text: [turn("system", text)]))


@st.composite
def pair_rows(draw: st.DrawFn) -> Example:
    chosen, rejected = draw(texts), draw(texts)
    good, bad = [turn("assistant", chosen)], [turn("assistant", rejected)]
    prompt = draw(systems) + draw(dialogues())
    wrong = {"chosen": [*NO_TEXT, *NO_TURN], "rejected": [*NO_TEXT, *NO_TURN]}
    form = draw(st.sampled_from(["texts", "messages", "whole"]))
    if form == "texts":
        prompt = prompt[-1:]
        raw = {"prompt": prompt[0]["content"], "chosen": chosen, "rejected": rejected}
    elif form == "messages":
        raw = {"prompt": prompt, "chosen": good, "rejected": bad}
    else:
        raw = {"chosen": prompt + good, "rejected": prompt + bad}
        wrong = {name: [*values, prompt, good * 2, "text"] for name, values in wrong.items()}
    if form != "whole":
        wrong["prompt"] = [*NO_TEXT, *NO_TURN, good]
    return Example(raw, views_of_pair(prompt, chosen, rejected), wrong)


@st.composite
def unpaired_rows(draw: st.DrawFn) -> Example:
    prompt, text, label = draw(dialogues()), draw(texts), draw(st.booleans())
    said = [turn("assistant", text)]
    raw = {"prompt": prompt, "completion": draw(st.sampled_from([text, said])), "label": label}
    view: list[dict[str, Any]] = [{"prompt": prompt, "completion": said}]
    views = {("labels", "safety"): [view[0] | {"label": label}]} | ({("responses", ""): view} if label else {})
    return Example(raw, views, {"prompt": [*NO_TEXT, said], "completion": [*NO_TEXT, *NO_TURN], "label": NO_FLAG})


@st.composite
def hh_rows(draw: st.DrawFn) -> Example:
    prompt = draw(dialogues(sayings))
    names = {"user": "Human", "assistant": "Assistant"}
    context = "".join(f"\n\n{names[said['role']]}: {said['content']}" for said in prompt)
    chosen, rejected = draw(sayings), draw(sayings)
    raw = {name: f"{context}\n\nAssistant: {text}" for name, text in (("chosen", chosen), ("rejected", rejected))}
    other = [] if prompt == [turn("user", "?")] else ["\n\nHuman: ?\n\nAssistant: x"]
    no_dialogue = [None, "", 7, [], "Hello.", "\ud800", context, f"{context}\n\nAssistant: ", *other]
    return Example(raw, views_of_pair(prompt, chosen, rejected), dict.fromkeys(raw, no_dialogue))


@st.composite
def sharegpt_rows(draw: st.DrawFn) -> Example:
    prompt, chosen, rejected = draw(systems) + draw(dialogues()), draw(texts), draw(texts)
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    raw: dict[str, Any] = {
        "conversations": [{"from": names[said["role"]], "value": said["content"]} for said in prompt],
        "chosen": {"from": "gpt", "value": chosen},
        "rejected": {"from": "gpt", "value": rejected},
    }
    no_answer = [None, "text", 7, [], {}, {"value": "x"}, {"from": "human", "value": "x"}, {"from": 7, "value": "x"}]
    no_answer += [{"from": "gpt", "value": value} for value in (None, "", [])]
    no_prompt = [*NO_TEXT, "text", [raw["chosen"]], [{"from": "human", "value": "\ud800"}]]
    no_prompt += [[{"from": None, "value": "x"}]]
    wrong = {"conversations": no_prompt, "chosen": no_answer, "rejected": no_answer}
    return Example(raw, views_of_pair(prompt, chosen, rejected), wrong)


EXAMPLES = {DataSchema.pku: pku_rows(), DataSchema.pairs: pair_rows(), DataSchema.unpaired: unpaired_rows()}
EXAMPLES |= {DataSchema.hh: hh_rows(), DataSchema.sharegpt: sharegpt_rows()}


def settings_for(schema: DataSchema, on_bad_row: OnBadRow = OnBadRow.stop) -> DatasetConfig:
    return DatasetConfig(name="local", schema=schema, criterion="safety", on_bad_row=on_bad_row)


def numbered(*rows: Any) -> list[RawRows]:
    return [RawRows("rows.json", list(enumerate(rows, 1)))]


@pytest.mark.parametrize("schema", EXAMPLES)
@given(data=st.data())
def test_valid_rows_give_exactly_the_expected_views(schema: DataSchema, data: st.DataObject) -> None:
    examples = data.draw(st.lists(EXAMPLES[schema], min_size=1, max_size=3))
    preferences = normalise(numbered(*(example.raw for example in examples)), settings_for(DataSchema.auto))
    assert (preferences.detected, preferences.skipped, len(preferences.rows)) == (schema, 0, len(examples))
    criteria = {"": None, "helpfulness": HELPFULNESS, "safety": SAFETY}
    for view, criterion in {kind for example in examples for kind in example.views}:
        made = make_view(preferences, View(view), criteria[criterion])
        assert made == [entry for example in examples for entry in example.views.get((view, criterion), [])]


@st.composite
def corruptions(draw: st.DrawFn, examples: st.SearchStrategy[Example]) -> Any:
    """A row with one field gone or wrong, or something that is no row at all."""
    example = draw(examples)
    field = draw(st.sampled_from([*example.wrong, None]))
    if field is None:
        return draw(st.sampled_from([None, 1, "text", [], [example.raw], {}]))
    if draw(st.booleans()):
        return {name: value for name, value in example.raw.items() if name != field}
    return example.raw | {field: draw(st.sampled_from(example.wrong[field]))}


@pytest.mark.parametrize("schema", EXAMPLES)
@given(data=st.data())
def test_no_corruption_gets_through(schema: DataSchema, data: st.DataObject) -> None:
    good, bad = data.draw(EXAMPLES[schema]).raw, data.draw(corruptions(EXAMPLES[schema]))
    place = data.draw(st.integers(0, 2))
    rows = [good, good]
    rows.insert(place, bad)
    with pytest.raises(DataError) as caught:
        normalise(numbered(*rows), settings_for(schema))
    first, second, *_ = str(caught.value).splitlines()
    assert first == "rows.json has rows that can't be used:"
    assert second.startswith(f"row {place + 1}: ")
    kept = normalise(numbered(*rows), settings_for(schema, OnBadRow.skip))
    assert (len(kept.rows), kept.skipped) == (2, 1)
    assert kept.rows == normalise(numbered(good, good), settings_for(schema)).rows
    with pytest.raises(DataError):
        normalise(numbered(bad), settings_for(schema, OnBadRow.skip))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "from", "value", "Theft"]), inner, max_size=2)
    ),
    max_leaves=5,
)
KNOWN = [name for fields in (*FIELDS.values(), OPTIONAL_FIELDS) for name in fields]
names = st.sampled_from([*KNOWN, "x"])


@given(
    rows=st.lists(values | st.dictionaries(names, values, max_size=6), max_size=3),
    schema=st.sampled_from(DataSchema),
    on_bad_row=st.sampled_from(OnBadRow),
)
def test_nothing_ends_in_anything_but_a_data_error(rows: list[Any], schema: DataSchema, on_bad_row: OnBadRow) -> None:
    complaint = "rows.json "
    try:
        normalise(numbered(*rows), settings_for(schema, on_bad_row))
    except DataError as error:
        complaint = str(error)
    assert complaint.startswith("rows.json ")
    assert len(complaint) < 2000
