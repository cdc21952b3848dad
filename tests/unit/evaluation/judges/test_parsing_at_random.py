"""Scores in any form among any prose, texts at random, and texts made to confuse."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sacpo_exp.evaluation.judges.parsing import Reading, read_refusal, read_scores
from sacpo_exp.evaluation.ledger.records import State

SCALE = (1.0, 10.0)
UNHURRIED = settings(deadline=None)

FORMS = [
    "{0} {1}",
    "{0}, {1}",
    "{0}/10 {1}/10",
    "**{0}** **{1}**",
    "Scores: {0} {1}",
    "Scores: first = {0}, second = {1}",
    "A: {0} B: {1}",
    "Assistant 2: {1}\nAssistant 1: {0}",
    "- **First:** {0}/10\n- **Second:** {1}/10",
    "Score of the first response: {0}\nScore of the second response: {1}",
    '{{"first": {0}, "second": {1}}}',
    '```json\n{{"reason": "brief", "scores": [{0}, {1}]}}\n```',
]
on_scale = st.one_of(
    st.integers(1, 10), st.integers(10, 99).map(lambda n: n / 10), st.integers(100, 999).map(lambda n: n / 100)
)
off_scale = st.one_of(st.integers(11, 10**30), st.integers(-(10**30), 0), st.floats(10.0, 1e12, exclude_min=True))
words = st.lists(st.from_regex(r"[a-zA-Z]{1,12}", fullmatch=True), min_size=2, max_size=12).map(" ".join)
sentences = st.tuples(words, st.sampled_from([".", "!", "?", ",", ""])).map("".join)
prose = st.lists(sentences, max_size=4).map("\n".join)
AROUND = [
    "{scores}\n{before}\n{after}",
    "{before}\nMy scores:\n{scores}\n\n{after}",
    "{before}\n\nFinal scores:\n\n{scores}",
]
placed = st.one_of(
    st.tuples(st.sampled_from(FORMS), st.sampled_from(AROUND)),
    # after prose that announces nothing a block of code may be anybody's
    st.tuples(st.sampled_from(FORMS[:-1]), st.just("{before}\n{scores}\n{after}")),
)


@UNHURRIED
@given(placed=placed, scores=st.tuples(on_scale, on_scale), before=prose, after=prose)
def test_every_form_reads_as_its_two_numbers_whatever_prose_is_around(
    placed: tuple[str, str], scores: tuple[float, float], before: str, after: str
) -> None:
    form, around = placed
    text = around.format(before=before, scores=form.format(*scores), after=after)
    assert read_scores(text, "stop", SCALE) == Reading(State.ok, scores)


@UNHURRIED
@given(form=st.sampled_from(FORMS), on=on_scale, off=off_scale, is_first=st.booleans())
def test_a_number_off_the_scale_is_never_a_score(form: str, on: float, off: float, is_first: bool) -> None:
    scores = (off, on) if is_first else (on, off)
    assert read_scores(form.format(*scores), "stop", SCALE).state != State.ok


@UNHURRIED
@given(
    scores=st.lists(on_scale, min_size=4, max_size=4), forms=st.lists(st.sampled_from(FORMS), min_size=2, max_size=2)
)
def test_two_pairs_are_read_only_if_they_agree(scores: list[float], forms: list[str]) -> None:
    text = f"{forms[0].format(*scores[:2])}\nScores:\n{forms[1].format(*scores[2:])}"
    expected = (scores[0], scores[1]) if scores[:2] == scores[2:] else None
    assert read_scores(text, "stop", SCALE).scores == expected


TRAPS = [
    "8 9 7",
    "1. 8",
    "> 10 1",
    "It says:",
    "<think>",
    "</think>",
    "full_refusal",
    "Scores",
    "first",
    "-",
    "/10",
    "I can't",
]
fragments = st.sampled_from([*FORMS, *TRAPS, "\n", " ", "1", "10", ":", "{", "}", '"', "*", "```", "`"])
noise = st.one_of(st.text(), st.lists(fragments, max_size=12).map("".join))


@UNHURRIED
@given(text=noise, finish_reason=st.sampled_from([None, "stop", "length", "tool_calls"]))
def test_any_text_ends_in_a_state_and_scores_are_on_the_scale(text: str, finish_reason: str | None) -> None:
    reading = read_scores(text, finish_reason, SCALE)
    assert (reading.state == State.ok) == (reading.scores is not None)
    assert all(1 <= score <= 10 for score in reading.scores or ())
    label = read_refusal(text, finish_reason)
    assert (label.state == State.ok) == (label.label is not None)


#: Bait for regular expressions that try again from every place; 200 kB each.
LONG = {
    "numbers": "8 " * 100_000,
    "pairs": "8 9\n" * 49_999 + "8 1\n",
    "braces": "{" * 200_000,
    "nested objects": '{"a":' * 40_000,
    "objects in lines": '{"a":{"b":1},\n' * 14_000,
    "brackets": "[(" * 100_000,
    "blank lines": "\n" * 200_000,
    "spaces": " " * 200_000,
    "backticks": "`" * 200_000,
    "openings": ("*a _b `c " * 40 + "\n") * 550,
    "quotes": '"' * 200_000,
    "cues": ("final " * 65 + "\n") * 510,
    "cues in lines": "final\n" * 33_000,
    "names": ("assistant 1 is score of the " * 14 + "\n") * 510,
    "names and gaps": ("Assistant 1:" + " " * 380 + "x\n") * 500,
    "gaps": ("scores (" + " " * 385 + "9\n") * 500,
    "declining": "I can't " * 25_000,
    "thoughts": "<think></think>" * 13_000,
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_a_long_text_made_to_confuse_is_read_to_its_end(text: str) -> None:
    assert read_scores(text, "stop", SCALE).state in (State.unparsed, State.refused)
    assert read_refusal(text, "length").state in (State.unparsed, State.refused)
