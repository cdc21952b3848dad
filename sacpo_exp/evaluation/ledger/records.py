"""A question to a judge and its answer, as the ledger stores them. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from sacpo_exp.store import content_hash


class State(StrEnum):
    """Result of asking; only `ok` is ever turned into a verdict."""

    ok = "ok"
    unparsed = "unparsed"  # an answer without scores
    refused = "refused"  # the judge, or its provider's filter, declined
    failed = "failed"  # no answer


@dataclass(frozen=True)
class Question:
    """One call to a judge, and everything that decides its answer.

    Attributes:
        criterion: its name, or `refusal`, which asks about one response only.
        prompt: that was answered.
        first, second: the responses in the order in which the judge sees them; `second` is empty for `refusal`.
        repeat: from 0.
        base_url: of the server, without a slash at its end.
        sampling: keyword arguments of the call besides model and messages: temperature, seed, …
        template: name and hash of the text that the messages were made from.
        messages: (role, content), as sent.
        scale: least and greatest score that the judge may give; (0, 2) for `refusal`.
    """

    criterion: str
    prompt_id: str
    prompt: str
    first: str
    second: str
    repeat: int
    model: str
    base_url: str
    sampling: dict[str, Any]
    template: str
    messages: tuple[tuple[str, str], ...]
    scale: tuple[float, float]

    @cached_property
    def key(self) -> str:
        """Hash of all that decides the answer; two policies that wrote the same words share it."""
        names = ("model", "base_url", "sampling", "messages", "repeat", "template")
        return content_hash(
            {name: getattr(self, name) for name in names} | {"order": int(self.first > self.second > "")}
        )


@dataclass(frozen=True)
class Answer:
    """The reply to a question, or why there is none.

    Attributes:
        raw: the text as received; of a refusal its explanation.
        finish_reason: of the server: `stop`, `length`, `content_filter`; `refusal` where it sent one as such.
        error: of a `failed` or filtered call.
        answered_by: the model that the server names.
        prompt_tokens, cached_tokens, completion_tokens: as the server counts them; cached ones are among the prompt's.
            In the ledger those of earlier answers to the question are added.
        attempts: calls made, in the ledger with those of earlier records.
        via: `chat`, or `batch` at its lower price.
        seconds: from sending to receiving.
        created: UTC, ISO 8601.
    """

    state: State
    raw: str | None = None
    finish_reason: str | None = None
    error: str | None = None
    answered_by: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    attempts: int = 1
    via: str = "chat"
    seconds: float = 0.0
    created: str = ""
