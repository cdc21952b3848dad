"""What an error means: try again, give this question up, or stop the run; and how long to wait."""

import errno
import socket
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import openai
import pytest

from sacpo_exp.evaluation.judges.faults import LONGEST_WAIT, Fault, choose_wait, explain, read_retry_after
from sacpo_exp.evaluation.judges.replies import BadBodyError

REQUEST = httpx2.Request("POST", "http://localhost/v1/chat/completions")


def status_error(status: int, code: str | None = None, retry_after: str | None = None) -> openai.APIStatusError:
    headers = {"Retry-After": retry_after} if retry_after else {}
    response = httpx2.Response(status, headers=headers, request=REQUEST)
    return openai.APIStatusError("said", response=response, body={"message": "no\nway", "code": code})


def connection_error(cause: BaseException) -> openai.APIConnectionError:
    error = openai.APIConnectionError(request=REQUEST)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("status", "code", "at_first", "later"),
    [
        (400, None, Fault.rejected, Fault.rejected),
        (400, "content_filter", Fault.filtered, Fault.filtered),
        (400, "invalid_prompt", Fault.filtered, Fault.filtered),
        (401, None, Fault.fatal, Fault.fatal),
        (403, None, Fault.fatal, Fault.rejected),
        (404, None, Fault.fatal, Fault.passing),
        (405, None, Fault.fatal, Fault.rejected),
        (408, None, Fault.passing, Fault.passing),
        (409, None, Fault.passing, Fault.passing),
        (413, None, Fault.rejected, Fault.rejected),
        (422, None, Fault.rejected, Fault.rejected),
        (429, None, Fault.passing, Fault.passing),
        (429, "insufficient_quota", Fault.fatal, Fault.fatal),
        (500, None, Fault.passing, Fault.passing),
        (503, None, Fault.passing, Fault.passing),
    ],
)
def test_how_far_a_status_reaches_hangs_on_whether_the_server_has_answered_before(
    status: int, code: str | None, at_first: Fault, later: Fault
) -> None:
    problems = [explain(status_error(status, code), has_answered) for has_answered in (False, True)]
    assert [problem.fault for problem in problems] == [at_first, later]
    assert [problem.message for problem in problems] == [f"HTTP {status}: no way"] * 2
    assert all(problem.is_free for problem in problems)


@pytest.mark.parametrize(
    "cause",
    [
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        ssl.SSLCertVerificationError("self-signed certificate"),
    ],
)
def test_nobody_there_stops_a_run_at_its_first_call_only(cause: OSError) -> None:
    assert explain(connection_error(cause), has_answered=False).fault == Fault.fatal
    assert explain(connection_error(cause), has_answered=True).fault == Fault.passing


@pytest.mark.parametrize(
    "error",
    [
        connection_error(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")),
        openai.APITimeoutError(request=REQUEST),
        TimeoutError(),
        BadBodyError("<html>"),
    ],
)
def test_a_call_that_was_cut_off_may_pass_and_may_have_cost_something(error: Exception) -> None:
    problem = explain(error, has_answered=False)
    assert (problem.fault, problem.is_free) == (Fault.passing, False)


def test_texts_that_can_not_be_sent_are_not_sent_again_and_again() -> None:
    with pytest.raises(UnicodeEncodeError) as caught:
        "\ud800".encode()
    assert explain(caught.value, has_answered=True).fault == Fault.rejected


def test_an_absurd_wait_stops_the_run() -> None:
    problem = explain(status_error(429, retry_after="86400"), has_answered=True)
    assert (problem.fault, problem.message) == (Fault.fatal, "HTTP 429: no way; it asks to wait 86400 s")
    assert explain(status_error(429, retry_after="600"), has_answered=True).retry_after == 600


@pytest.mark.parametrize(
    ("header", "expected"), [(None, None), ("", None), ("soon", None), ("7", 7.0), ("0.5", 0.5), ("-3", 0.0)]
)
def test_retry_after_is_a_number_of_seconds(header: str | None, expected: float | None) -> None:
    assert read_retry_after(header) == expected


def test_retry_after_may_be_a_date() -> None:
    later = read_retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True))
    assert later is not None
    assert 80 < later <= 90
    assert read_retry_after(format_datetime(datetime(2020, 1, 1, tzinfo=UTC), usegmt=True)) == 0.0


def test_waits_grow_are_spread_and_the_same_for_the_same_question() -> None:
    keys = [f"key {number}" for number in range(200)]
    for attempt, ceiling in ((1, 1.0), (3, 4.0), (20, LONGEST_WAIT)):
        waits = [choose_wait(attempt, key, None) for key in keys]
        assert all(0 <= wait <= ceiling for wait in waits)
        assert min(waits) < 0.1 * ceiling < 0.9 * ceiling < max(waits)
        assert waits == [choose_wait(attempt, key, None) for key in keys]


def test_no_wait_is_shorter_than_the_server_asks_for() -> None:
    assert all(30 <= choose_wait(attempt, "key", 30.0) <= 31 for attempt in range(1, 9))
