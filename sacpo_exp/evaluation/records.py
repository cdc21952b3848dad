"""What an evaluation writes down: questions to a judge and their answers, verdicts, and the lines of its files."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from sacpo_exp.evaluation.refusals import is_refusal
from sacpo_exp.store import ArtifactSpec, Store, content_hash

RESPONSES, SCORES = "responses.jsonl", "scores.jsonl"
VERDICTS, DIVERGENCE = "verdicts.jsonl", "divergence.jsonl"


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
        prompt: that was answered.
        first, second: the responses in the order in which the judge sees them.
        repeat: from 0.
        base_url: of the server, without a slash at its end.
        sampling: keyword arguments of the call besides model and messages: temperature, seed, …
        template: name and hash of the text that the messages were made from.
        messages: (role, content), as sent.
        scale: least and greatest score that the judge may give.
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
        """Hash of all that decides the answer; two policies that gave the same response share it."""
        names = ("model", "base_url", "sampling", "messages", "repeat", "template")
        values = {name: getattr(self, name) for name in names}
        return content_hash(values | {"order": int(self.first > self.second > "")})


@dataclass(frozen=True)
class Answer:
    """The reply to a question, or why there is none.

    Attributes:
        raw: the text as received; of a refusal its explanation.
        finish_reason: of the server: `stop`, `length`, `content_filter`; `refusal` where it sent one as such.
        error: of a `failed` or filtered call.
        answered_by: the model that the server names.
        prompt_tokens, cached_tokens, completion_tokens: as the server counts them; cached ones are among the prompt's.
        attempts: number of calls. In the ledger calls and tokens of earlier answers to the question are included.
        via: `chat`; in older ledgers also `batch`.
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


def compare(score: float, opponent_score: float) -> dict[str, Any]:
    """Return one judgment of a policy on one prompt and criterion: 1 it wins, 0 its opponent wins, 0.5 equal scores.

    Higher scores are better for every criterion; where a judge gives a cost, the score is minus that.
    """
    verdict = 0.5 if score == opponent_score else float(score > opponent_score)
    return {"state": "ok", "score": score, "opponent_score": opponent_score, "verdict": verdict}


def call_tie() -> dict[str, Any]:
    """Return the verdict on two equal responses, about which no judge is asked."""
    return {"state": "ok", "score": None, "opponent_score": None, "verdict": 0.5, "is_same": True}


def combine(singles: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the verdict on one prompt: judgments averaged within each answer order, then the two orders averaged.

    Without any judgment in one order there is no verdict: a judge that always prefers the first answer would decide.
    Its state is then the first of failed, refused and unparsed that occurs.

    Args:
        singles: `state`, `is_first` (whether the policy's response was shown first), and where the state is `ok`
            `score`, `opponent_score` and `verdict`.
    """
    orders = [[s for s in singles if s["is_first"] is is_first and s["state"] == "ok"] for is_first in (True, False)]
    names = ("score", "opponent_score", "verdict")
    if not all(orders):
        states = Counter(single["state"] for single in singles)
        state = next((name for name in ("failed", "refused", "unparsed") if states[name]), "failed")
        return {"state": state} | dict.fromkeys(names) | {"singles": list(singles)}
    means = {name: fmean(fmean(single[name] for single in order) for order in orders) for name in names}
    return {"state": "ok"} | means | {"singles": list(singles)}


def make_record(prompt: Mapping[str, Any], response: Mapping[str, Any], opponent: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a verdict record that do not depend on the judge."""
    return {
        "prompt_id": prompt["prompt_id"],
        "prompt": prompt["prompt"],
        "kind": prompt.get("kind"),
        "category": prompt.get("category"),
        "response": response["response"],
        "opponent_response": opponent["response"],
        "n_tokens": response["n_tokens"],
        "opponent_n_tokens": opponent["n_tokens"],
        "finish_reason": response["finish_reason"],
        "is_refusal": is_refusal(response["response"]),
    }


def write_records(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write one record per line."""
    path.write_bytes("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode())


def store_records(store: Store, spec: ArtifactSpec, name: str, make: Callable[[], Sequence[Mapping[str, Any]]]) -> Path:
    """Return the folder of an artifact with the records of `make` in its file `name`; made if it is not stored."""

    def build(folder: Path) -> dict[str, Any]:
        records = make()
        write_records(folder / name, records)
        return {"n": len(records)}

    return store.get_or_build(spec, build)


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read the records that `write_records` wrote."""
    with path.open(encoding="utf-8", newline="\n") as file:  # a response may hold other characters that end lines
        return [json.loads(line) for line in file]


def read_by_prompt(path: Path) -> dict[str, dict[str, Any]]:
    """Read records by prompt id."""
    return {record["prompt_id"]: record for record in read_records(path)}
