"""What an error of the openai client means: try again, give this question up, or stop the run."""

import errno
import random
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any, Final

from sacpo_exp.evaluation.judges.replies import BadBodyError

UNREACHABLE: Final = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH)
#: Codes by which a provider's filter declines a prompt: OpenAI's, and Azure's.
FILTERED: Final = ("content_filter", "content_policy_violation", "invalid_prompt")
REDIRECTS: Final = range(300, 400)
#: Seconds before the second attempt at most; doubled with each further one up to the longest.
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
#: A server that asks to wait longer than this is not waited for.
LONGEST_RETRY_AFTER: Final = 600.0


class Fault(Enum):
    """How far an error reaches."""

    passing = "passing"  # another attempt may succeed
    rejected = "rejected"  # the request itself is wrong
    filtered = "filtered"  # the provider's filter will not have it judged
    fatal = "fatal"  # no other question would fare better


@dataclass(frozen=True)
class Problem:
    """One failed attempt.

    Attributes:
        fault: how far it reaches.
        message: what happened.
        status: of HTTP; None where no answer came.
        retry_after: how long the server asks to wait, in seconds.
        is_free: the server has surely charged nothing; of a call that was cut off nobody knows.
    """

    fault: Fault
    message: str
    status: int | None = None
    retry_after: float | None = None
    is_free: bool = False


def explain(error: Exception, has_answered: bool) -> Problem:
    """What an error of one attempt means; `has_answered`: whether the server has answered anything in this run."""
    import openai

    if isinstance(error, openai.APIStatusError):
        return _explain_status(error, has_answered)
    if isinstance(error, openai.APITimeoutError | TimeoutError):
        return Problem(Fault.passing, "no answer in time")
    if isinstance(error, openai.APIConnectionError):
        is_nobody = _is_unreachable(error)
        fault = Fault.fatal if is_nobody and not has_answered else Fault.passing
        return Problem(fault, f"no connection ({_find_root(error)})", is_free=is_nobody)
    if isinstance(error, UnicodeEncodeError):
        return Problem(Fault.rejected, "half of a surrogate pair in the texts, which can't be sent", is_free=True)
    if isinstance(error, BadBodyError):
        return Problem(Fault.passing, f"unreadable answer ({error})")
    return Problem(Fault.passing, f"{type(error).__name__}: {str(error)[:200]}")


def _explain_status(error: Any, has_answered: bool) -> Problem:
    status, message = error.status_code, f"HTTP {error.status_code}: {_message(error)}"
    if status in REDIRECTS:
        message = f"HTTP {status} to {error.response.headers.get('location', 'nowhere')[:200]}"
    wait = read_retry_after(error.response.headers.get("retry-after"))
    fault = Fault.rejected
    # Once answers have come, address and key are right: what is denied or not found then is so for one request.
    is_stopping = status in (403, 404, 405, *REDIRECTS) and not has_answered
    if status == 401 or is_stopping or error.code == "insufficient_quota":
        fault = Fault.fatal
    elif wait is not None and wait > LONGEST_RETRY_AFTER:
        fault, message = Fault.fatal, f"{message}; it asks to wait {wait:.0f} s"
    elif error.code in FILTERED:
        fault = Fault.filtered
    elif status in (404, 408, 409, 425, 429) or status >= 500:
        fault = Fault.passing
    return Problem(fault, message, status, wait, is_free=True)


def _message(error: Any) -> str:
    body = error.body
    said = body.get("message") if isinstance(body, dict) else None
    return " ".join(str(said or body or error.message).split())[:300]


def _is_unreachable(error: BaseException) -> bool:
    """Whether nobody listens there, there is no such host, or it can't show that it is the one."""
    root = _find_root(error)
    return isinstance(root, socket.gaierror | ssl.SSLError) or getattr(root, "errno", None) in UNREACHABLE


def _find_root(error: BaseException) -> BaseException:
    """What the libraries in between made their errors of."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return error


def read_retry_after(header: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, a number or a date (RFC 9110, 10.2.3); None if it says nothing."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def choose_wait(attempt: int, key: str, retry_after: float | None) -> float:
    """Seconds before the next attempt: what the server asks for, else exponential with full jitter, seeded by the key.

    Brooker, Exponential Backoff and Jitter, AWS Architecture Blog 2015.
    """
    ceiling = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1))
    jitter = random.Random(f"{key}{attempt}").uniform(0, ceiling)
    return jitter if retry_after is None else retry_after + min(jitter, 1.0)
