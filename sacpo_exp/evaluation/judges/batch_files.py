"""Files of the Batch API: a request per line in, an answer or an error per line out. Pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sacpo_exp.evaluation.judges.credentials import redact
from sacpo_exp.evaluation.judges.faults import FILTERED
from sacpo_exp.evaluation.judges.replies import BadBodyError, make_body, now, read_body
from sacpo_exp.evaluation.ledger import Answer, Question, State

ENDPOINT: Final = "/v1/chat/completions"
#: Limits of the Batch API per file: requests, and bytes with some room.
MOST_REQUESTS, MOST_BYTES = 50_000, 190_000_000
#: Codes of requests that were not worked on.
UNTOUCHED: Final = ("batch_expired", "batch_cancelled")


def split(questions: Sequence[Question]) -> Iterator[list[Question]]:
    """Portions that the Batch API takes as one file."""
    portion: list[Question] = []
    size = 0
    for question in questions:
        length = len(write_line(question))
        if portion and (len(portion) == MOST_REQUESTS or size + length > MOST_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(question)
        size += length
    if portion:
        yield portion


def write_line(question: Question) -> str:
    """The request for a question, in ASCII."""
    request = {"custom_id": question.key, "method": "POST", "url": ENDPOINT, "body": make_body(question)}
    return json.dumps(request) + "\n"


def read_lines(text: str, questions: Mapping[str, Question], secret: str) -> Iterator[tuple[str, Answer | None]]:
    """(key, answer) of every line that was worked on; the answer is None if the key is not among `questions`.

    A line that can't be read, such as a last one that was cut off, leaves its question without an answer.

    Args:
        text: of an output or an error file.
        secret: the key of the server, which no answer will hold.
    """
    for line in text.split("\n"):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(entry, dict) or not isinstance(key := entry.get("custom_id"), str):
            continue
        error = _to_mapping(entry.get("error"))
        if error.get("code") not in UNTOUCHED:
            yield key, _read_entry(entry, error, questions[key], secret) if key in questions else None


def _read_entry(entry: Mapping[str, Any], error: Mapping[str, Any], question: Question, secret: str) -> Answer:
    response = _to_mapping(entry.get("response"))
    status = response.get("status_code")
    if status == 200 and not error:
        try:
            return read_body(json.dumps(response.get("body")), question, attempts=1, seconds=0.0, via="batch")
        except BadBodyError as problem:
            said, state = f"unreadable answer ({problem})", State.failed
    else:
        error = error or _to_mapping(_to_mapping(response.get("body")).get("error"))
        said = f"HTTP {status}: {' '.join(str(error.get('message') or 'no reason given').split())[:300]}"
        state = State.refused if error.get("code") in FILTERED else State.failed
    finish_reason = "content_filter" if state == State.refused else None
    return Answer(state, finish_reason=finish_reason, error=redact(said, secret), via="batch", created=now())


def _to_mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
