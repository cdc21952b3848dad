"""Lines of batch files: what can be read is read for the question that it names, and for no other."""

import json
from typing import Any

from asked import make_question

from sacpo_exp.evaluation.judges.batch_files import ENDPOINT, read_lines, write_line
from sacpo_exp.evaluation.ledger import Answer, State

QUESTION = make_question("Which?")
BODY = {"model": "m", "choices": [{"message": {"content": "8 9"}, "finish_reason": "stop"}]}


def line(key: str = QUESTION.key, status: int = 200, body: Any = None, error: Any = None) -> str:
    response = None if error else {"status_code": status, "body": BODY if body is None else body}
    return json.dumps({"custom_id": key, "response": response, "error": error})


def read(*lines: str) -> list[tuple[str, Answer | None]]:
    return list(read_lines("\n".join(lines), {QUESTION.key: QUESTION}, "my-own-secret"))


def read_one(text: str) -> Answer:
    [(key, answer)] = read(text)
    assert key == QUESTION.key
    assert answer is not None
    return answer


def test_a_request_is_one_line_that_names_its_question() -> None:
    text = write_line(make_question("Wörter\u2028 \ud800\n"))
    assert text.isascii()
    assert text.count("\n") == 1
    request = json.loads(text)
    assert (request["custom_id"], request["url"]) == (make_question("Wörter\u2028 \ud800\n").key, ENDPOINT)
    assert request["body"]["messages"] == [{"role": "user", "content": "Wörter\u2028 \ud800\n"}]


def test_an_answer_is_read_as_one_of_the_usual_way() -> None:
    answer = read_one(line())
    assert (answer.state, answer.raw, answer.via, answer.attempts) == (State.ok, "8 9", "batch", 1)


def test_a_request_that_failed_says_why_without_the_key() -> None:
    answer = read_one(line(status=500, body={"error": {"message": "broke on\nmy-own-secret"}}))
    assert (answer.state, answer.error) == (State.failed, "HTTP 500: broke on sk-…")
    assert read_one(line(error={"code": "x", "message": "why"})).error == "HTTP None: why"


def test_a_request_that_a_filter_declined_is_refused() -> None:
    answer = read_one(line(status=400, body={"error": {"message": "no", "code": "content_filter"}}))
    assert (answer.state, answer.finish_reason, answer.raw) == (State.refused, "content_filter", None)


def test_requests_that_were_not_worked_on_have_no_answer() -> None:
    assert read(*(line(error={"code": code, "message": ""}) for code in ("batch_expired", "batch_cancelled"))) == []


def test_lines_of_other_questions_and_those_that_are_none_give_nothing() -> None:
    odd = ["", "8 9", "[]", "null", "{}", '{"custom_id": 7}', "[" * 100_000, line()[:-9]]
    assert read(*odd, line(key="another")) == [("another", None)]


def test_fields_of_another_kind_are_a_failure_not_a_crash() -> None:
    for response in ("text", [], 7, {"status_code": "200", "body": BODY}, {"status_code": 200, "body": "8 9"}):
        answer = read_one(json.dumps({"custom_id": QUESTION.key, "response": response}))
        assert (answer.state, answer.raw) == (State.failed, None)
    assert read_one(json.dumps({"custom_id": QUESTION.key, "error": "text"})).state == State.failed
