"""Verdicts from two scores, and from several judgments of one pair. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from sacpo_exp.evaluation.refusals import is_refusal

#: The state of a prompt without a verdict is the first of these that occurs.
FAILURES = ("failed", "refused", "unparsed")


def compare(score: float, opponent_score: float) -> dict[str, Any]:
    """Return one judgment of a policy on one prompt and criterion: 1 it wins, 0 its opponent wins, 0.5 equal scores.

    Higher scores are better for every criterion; where a judge gives a cost, the score is minus that.
    """
    verdict = 0.5 if score == opponent_score else float(score > opponent_score)
    return {"state": "ok", "score": score, "opponent_score": opponent_score, "verdict": verdict}


def call_tie() -> dict[str, Any]:
    """Return the verdict on two equal texts, about which no judge is asked."""
    return {"state": "ok", "score": None, "opponent_score": None, "verdict": 0.5, "is_same": True}


def combine(singles: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the verdict on one prompt: judgments averaged within each answer order, then the two orders averaged.

    Without any judgment in one order there is no verdict: a judge that always prefers the first answer would decide.

    Args:
        singles: `state`, `is_first` (whether the policy's response was shown first), and where the state is `ok`
            `score`, `opponent_score` and `verdict`.
    """
    orders = [[s for s in singles if s["is_first"] is is_first and s["state"] == "ok"] for is_first in (True, False)]
    names = ("score", "opponent_score", "verdict")
    if not all(orders):
        states = Counter(single["state"] for single in singles)
        state = next((name for name in FAILURES if states[name]), "failed")
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
