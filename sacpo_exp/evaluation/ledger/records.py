"""What the ledger keeps: a question to a judge, and what came of it. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from sacpo_exp.store import content_hash


class State(StrEnum):
    """What came of asking; only `ok` is ever turned into a verdict."""

    ok = "ok"
    unparsed = "unparsed"  # an answer, but no scores in it
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

    @property
    def order(self) -> int:
        """0 if the responses stand in the order of their texts, 1 if turned around: the same for A–B and B–A."""
        return int(self.first > self.second > "")

    @cached_property
    def key(self) -> str:
        """Hash of all that decides the answer; two policies that wrote the same words share it."""
        return content_hash(
            {
                "model": self.model,
                "base_url": self.base_url,
                "sampling": self.sampling,
                "messages": self.messages,
                "order": self.order,
                "repeat": self.repeat,
                "template": self.template,
            }
        )


@dataclass(frozen=True)
class Answer:
    """What came back for a question.

    Attributes:
        raw: the text as received; of a refusal its explanation.
        finish_reason: as the server says: `stop`, `length`, `content_filter`; `refusal` where it sent one as such.
        error: of the last attempt, for `failed`.
        answered_by: the model that the server says has answered.
        prompt_tokens, cached_tokens, completion_tokens: as the server counts them; cached ones are among the prompt's.
            In the ledger those of earlier answers to the question are added.
        attempts: calls made, those that failed too; in the ledger with those of earlier records.
        via: `chat`, or `batch` at its lower price.
        seconds: from sending to having it, of the last attempt.
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
