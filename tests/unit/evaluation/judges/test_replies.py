"""Answers of servers, well-formed or not: each becomes a record that the ledger can hold, or is told to be none."""

import json
from pathlib import Path
from typing import Any

import pytest
from asked import make_question
from hypothesis import given
from hypothesis import strategies as st

from sacpo_exp.evaluation.judges.replies import BadBodyError, make_body, read_body
from sacpo_exp.evaluation.ledger import Answer, Ledger, State

GOOD: dict[str, Any] = {
    "model": "judge-2026",
    "choices": [{"message": {"content": "8 9"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}},
}
ODD = ("many", -1, 5.5, True, 10**40, [1], {"a": 1}, None, "\ud800")


def read(body: object) -> Answer:
    return read_body(json.dumps(body), make_question(), attempts=1, seconds=0.0)


def choice(finish_reason: object = "stop", **message: Any) -> dict[str, Any]:
    return GOOD | {"choices": [{"message": message, "finish_reason": finish_reason}]}


def test_the_request_holds_model_messages_and_sampling() -> None:
    assert make_body(make_question("Hello")) == {"model": "big", "messages": [{"role": "user", "content": "Hello"}]}


def test_a_whole_answer_is_read() -> None:
    answer = read(GOOD)
    assert (answer.state, answer.raw, answer.finish_reason) == (State.ok, "8 9", "stop")
    assert (answer.answered_by, answer.prompt_tokens, answer.cached_tokens, answer.completion_tokens) == (
        "judge-2026",
        5,
        1,
        2,
    )


@pytest.mark.parametrize(
    ("body", "state", "raw", "finish_reason"),
    [
        (choice(content=None, refusal="I won't."), State.refused, "I won't.", "refusal"),
        (choice("content_filter", content=""), State.refused, "", "content_filter"),
        (choice(content=None), State.unparsed, "", "stop"),
        (choice("length", content="8 1"), State.unparsed, "8 1", "length"),
        (choice(content="11 2"), State.unparsed, "11 2", "stop"),
        (choice(content="8 9\ud800"), State.unparsed, "8 9\ud800", "stop"),
        (choice({"odd": 1}, content="8 9"), State.ok, "8 9", None),
    ],
)
def test_what_is_no_plain_answer_keeps_its_words_and_gets_its_state(
    body: dict[str, Any], state: State, raw: str, finish_reason: str | None
) -> None:
    answer = read(body)
    assert (answer.state, answer.raw, answer.finish_reason) == (state, raw, finish_reason)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "8 9",
        "<html>",
        "[" * 100_000,
        '{"choices": []}',
        '{"error": {"message": "overloaded"}}',
        json.dumps(GOOD | {"usage": [1]}),
        json.dumps(choice(content=[{"type": "text", "text": "8 9"}])),
        json.dumps(choice(content=7)),
        json.dumps(GOOD)[:-20],
    ],
)
def test_what_is_no_chat_completion_is_told(text: str) -> None:
    with pytest.raises(BadBodyError) as caught:
        read_body(text, make_question(), attempts=1, seconds=0.0)
    assert len(str(caught.value)) <= 80


@given(*[st.sampled_from(ODD)] * 5)
def test_fields_of_another_kind_are_left_out(
    model: Any, prompt: Any, cached: Any, completion: Any, finish_reason: Any
) -> None:
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    answer = read(choice(finish_reason, content="8 9") | {"model": model, "usage": usage})
    assert (answer.prompt_tokens, answer.cached_tokens, answer.completion_tokens) == (None, None, None)
    assert all(text is None or isinstance(text, str) for text in (answer.answered_by, answer.finish_reason))


def test_the_ledger_holds_whatever_was_read(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l.sqlite") as ledger:
        for odd in ODD:
            answer = read(choice(odd, content="8 9\ud800\0") | {"model": odd, "usage": {"prompt_tokens": odd}})
            ledger.record(make_question(repr(odd)), answer)
            key = make_question(repr(odd)).key
            assert ledger.find([key]) == {key: answer}
