"""Any text that a policy, a judge or a server can produce comes back character by character."""

import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judgments import OK, make_question

from sacpo_exp.evaluation.ledger import Ledger
from sacpo_exp.evaluation.ledger.texts import cut_out, from_cell, to_cell
from sacpo_exp.evaluation.ledger.transfer import export_judgments, import_judgments

#: All of Unicode with NUL and halves of surrogate pairs, which JSON from a server can hold.
TEXTS = st.text(st.characters(exclude_categories=[]), max_size=40)


@settings(max_examples=60, deadline=None)
@given(TEXTS, TEXTS, TEXTS, TEXTS, TEXTS)
def test_texts_survive_the_ledger_and_an_export(prompt: str, first: str, second: str, around: str, raw: str) -> None:
    messages = (("system", around), ("user", f"{around}{prompt}|{first}|{second}{around}"))
    question = make_question("", prompt=prompt, first=first, second=second, messages=messages, prompt_id=raw)
    answer = replace(OK, raw=raw, error=around)
    with tempfile.TemporaryDirectory() as folder:
        with Ledger(Path(folder, "ledger.sqlite")) as ledger:
            ledger.record(question, answer)
            assert ledger.find([question.key]) == {question.key: answer}
            assert list(ledger.judgments()) == [(question, answer)]
            export_judgments(ledger, Path(folder, "all.jsonl"))
        with Ledger(Path(folder, "other.sqlite")) as ledger:
            import_judgments(ledger, Path(folder, "all.jsonl"))
            assert list(ledger.judgments()) == [(question, answer)]


@given(TEXTS)
def test_a_cell_gives_back_what_it_was_given(text: str) -> None:
    database = sqlite3.connect(":memory:")
    (cell,) = database.execute("SELECT ?", (to_cell(text),)).fetchone()
    database.close()
    assert from_cell(cell) == text


@given(st.lists(st.text("ab", max_size=3), max_size=4), st.text("ab ", max_size=20))
def test_pieces_join_to_the_whole(known: list[str], content: str) -> None:
    pieces = cut_out(content, known)
    assert "".join(pieces) == content
    assert "" not in pieces


@pytest.mark.parametrize(
    ("content", "known", "pieces"),
    [
        ("Q: why A: yes B: no", ["why", "yes", "no"], ["Q: ", "why", " A: ", "yes", " B: ", "no"]),
        ("yes, yes", ["yes", "yes"], ["yes, ", "yes"]),
        ("say yes and yes please", ["yes", "yes please"], ["say ", "yes", " and ", "yes please"]),
        ("nothing known", ["why", ""], ["nothing known"]),
    ],
)
def test_known_texts_are_pieces_of_their_own(content: str, known: list[str], pieces: list[str]) -> None:
    assert cut_out(content, known) == pieces
