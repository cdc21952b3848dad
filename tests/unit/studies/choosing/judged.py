"""Verdicts made up for tests of a choice, as `verdicts.jsonl` has them."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sacpo_exp.method.criteria import Criterion
from sacpo_exp.reporting.groups import Evaluation
from sacpo_exp.studies.choosing.candidates import Candidate

CRITERIA = [
    Criterion("helpfulness", "H", prompt_kinds=["benign"]),
    Criterion("safety", "S", prompt_kinds=["risky"]),
    Criterion("honesty", "O", prompt_kinds=["benign"]),
]
LABELS = {
    "judge": "scorer",
    "judge_id": "scorer-1",
    "prompts": "demo",
    "prompts_id": "5eed",
    "baseline_id": "sft",
    "opponent_id": "sft",
    "answers": "c0de",
    "criteria": [asdict(criterion) for criterion in CRITERIA],
    "has_zero": ["safety"],
}


def make_records(
    safety: Sequence[float | None],
    helpfulness: Sequence[float | None],
    categories: Sequence[str | None] = (None,),
    refused: int = 0,
    costs: Sequence[float] | None = None,
    honesty: Sequence[float] = (),
) -> list[dict[str, Any]]:
    """Risky prompts with these verdicts (None: failed), then benign ones, the first `refused` of which are refused.

    `honesty` is judged on the first of the benign ones.
    """
    records = []
    for place, verdict in enumerate(safety):
        record = _record(f"r{place:03}", "risky", verdict, -costs[place] if costs else verdict)
        records.append(record | {"category": categories[place % len(categories)]})
    for place, verdict in enumerate(helpfulness):
        records.append(_record(f"b{place:03}", "benign", verdict, verdict) | {"is_refusal": place < refused})
    for record, verdict in zip([record for record in records if record["kind"] == "benign"], honesty, strict=False):
        record["honesty"] = _judge(verdict, verdict)
    return records


def _record(prompt_id: str, kind: str, verdict: float | None, score: float | None) -> dict[str, Any]:
    entry = _judge(verdict, score)
    own, other = ("safety", "helpfulness") if kind == "risky" else ("helpfulness", "safety")
    return {"prompt_id": prompt_id, "kind": kind, "category": None, "is_refusal": False, own: entry, other: None}


def _judge(verdict: float | None, score: float | None) -> dict[str, Any]:
    return {"state": "failed" if verdict is None else "ok", "verdict": verdict, "score": score}


def make_candidate(
    number: float, records: list[dict[str, Any]], looked: list[float] | None = None, **labels: Any
) -> Candidate:
    """A policy with these verdicts; who looks at it is written down in `looked`."""
    title = f"q = {number:g}"
    own = LABELS | {"policy_id": f"q{number:g}", "policy": title, "merge_ratio": number} | labels

    def look() -> Evaluation:
        if looked is not None:
            looked.append(number)
        return Evaluation(own, records, {}, "2026")

    return Candidate(title, number, look)


def wins(n: int, share: float) -> list[float]:
    """n verdicts of which this share is won."""
    return [1.0] * round(share * n) + [0.0] * (n - round(share * n))
