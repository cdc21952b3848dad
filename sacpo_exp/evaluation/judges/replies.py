"""Requests of the chat completions format, and what comes back, whatever a server makes of that format. Pure."""

import json
from datetime import UTC, datetime
from typing import Any

from sacpo_exp.evaluation.judges.parsing import read_state
from sacpo_exp.evaluation.ledger import Answer, Question


class BadBodyError(Exception):
    """The server said 200 but sent nothing that could be read as an answer."""


def make_body(question: Question) -> dict[str, Any]:
    """The request: model, messages and sampling parameters."""
    messages = [{"role": role, "content": content} for role, content in question.messages]
    return {"model": question.model, "messages": messages, **question.sampling}


def read_body(text: str, question: Question, attempts: int, seconds: float, via: str = "chat") -> Answer:
    """What a chat completion says.

    Raises:
        BadBodyError: it is none.
    """
    try:
        body = json.loads(text)
        choice = body["choices"][0]
        message, finish_reason = choice["message"], _to_text(choice.get("finish_reason"))
        raw, refusal = message.get("content"), message.get("refusal")
        usage = body.get("usage") or {}
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise BadBodyError(f"{' '.join(text[:80].split()) or 'nothing'}") from error
    if not isinstance(raw, str | None) or not isinstance(refusal, str | None):
        raise BadBodyError("content that is no text")
    if refusal and not raw:
        raw, finish_reason = refusal, "refusal"
    raw = raw or ""
    return Answer(
        state=read_state(question.criterion, raw, finish_reason, question.scale),
        raw=raw,
        finish_reason=finish_reason,
        answered_by=_to_text(body.get("model")),
        prompt_tokens=_to_count(usage.get("prompt_tokens")),
        cached_tokens=_to_count(cached),
        completion_tokens=_to_count(usage.get("completion_tokens")),
        attempts=attempts,
        via=via,
        seconds=seconds,
        created=now(),
    )


def now() -> str:
    """UTC, as the ledger keeps it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _to_text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _to_count(value: object) -> int | None:
    """A number of tokens; None for what can't be one: the ledger holds no other."""
    return value if type(value) is int and 0 <= value < 2**53 else None
