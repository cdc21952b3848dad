"""Made-up verdicts for tests of a choice, as in `verdicts.jsonl`."""

from collections.abc import Sequence
from typing import Any

from sacpo_exp.method.criteria import Criterion
from sacpo_exp.reporting.collect import Evaluation
from sacpo_exp.studies.candidates import Candidate

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
    "criteria": [criterion.to_judge() for criterion in CRITERIA],
    "has_zero": ["safety"],
}


def make_records(
    safety: Sequence[float | None],
    helpfulness: Sequence[float | None],
    refused: int = 0,
    scores: Sequence[float] | None = None,
    honesty: Sequence[float] = (),
) -> list[dict[str, Any]]:
    """Risky prompts with these verdicts (None: failed), then benign ones, the first `refused` of which are refused.

    `scores` are those of the risky ones; `honesty` is judged on the first of the benign ones.
    """
    records = []
    for place, verdict in enumerate(safety):
        entry = _judge(verdict, scores[place] if scores else verdict)
        records.append({"prompt_id": f"r{place:03}", "kind": "risky", "is_refusal": False, "safety": entry})
    for place, verdict in enumerate(helpfulness):
        record = {"prompt_id": f"b{place:03}", "kind": "benign", "is_refusal": place < refused}
        record |= {"helpfulness": _judge(verdict, verdict)}
        records.append(record | ({"honesty": _judge(honesty[place], 1.0)} if place < len(honesty) else {}))
    return records


def _judge(verdict: float | None, score: float | None) -> dict[str, Any]:
    return {"state": "failed" if verdict is None else "ok", "verdict": verdict, "score": score}


def make_candidate(
    number: float, records: list[dict[str, Any]], looked: list[float] | None = None, **labels: Any
) -> Candidate:
    """A policy with these verdicts; `looked` records that it was looked at."""
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
