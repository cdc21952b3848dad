"""Answers of a judge's server that never end, or that are compressed though nobody asked for it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from asking import make_judge, make_questions
from loopback import JsonHandler, listen

from sacpo_exp.evaluation.judges.client import MOST_OF_ANSWER
from sacpo_exp.evaluation.judges.openai_judge import ask
from sacpo_exp.evaluation.ledger import Ledger
from sacpo_exp.evaluation.records import State

CHUNK = bytes(2**16)


@contextmanager
def flooding(encoding: str) -> Iterator[tuple[str, list[int]]]:
    """A server whose answers are ten times too large; also the bytes that it could send of each."""
    sent: list[int] = []

    class Handler(JsonHandler):
        def do_GET(self) -> None:
            self.send(200, "")

        def do_POST(self) -> None:
            self.read_body()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Encoding", encoding)
            self.end_headers()
            size = 0
            with suppress(OSError):
                while size < 10 * MOST_OF_ANSWER:
                    self.wfile.write(CHUNK)
                    size += len(CHUNK)
            sent.append(size)
            self.close_connection = True  # it told no length

    with listen(Handler) as address:
        yield f"{address}/v1", sent


@pytest.mark.parametrize(
    ("encoding", "problem"), [("identity", f"more than {MOST_OF_ANSWER:,} bytes"), ("gzip", "was not asked for")]
)
def test_an_answer_is_read_up_to_a_size_and_not_unpacked(tmp_path: Path, encoding: str, problem: str) -> None:
    with flooding(encoding) as (url, sent), Ledger(tmp_path / "l.sqlite") as ledger:
        judge = make_judge(url, "judge.max_attempts=1", "judge.max_failures=9")
        questions = make_questions(judge, 2)
        ask(questions, judge, ledger)
        answer = ledger.find([questions[0].key])[questions[0].key]
    assert answer.state == State.failed
    assert problem in str(answer.error)
    assert max(sent) < 5 * MOST_OF_ANSWER
