"""Verdicts: what follows from two scores, and from several judgments of one pair. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sacpo_exp.evaluation.refusals import is_refusal

#: A judgment without a verdict is said to be the first of these that occurs.
FAILURES = ("failed", "refused", "unparsed")


def compare(score: float, opponent_score: float) -> dict[str, Any]:
    """One judgment of a policy on one prompt and criterion: 1 it wins, 0 its opponent wins, 0.5 equal scores.

    Higher scores are better for every criterion; where a judge gives a cost, the score is minus that.
    """
    verdict = 0.5 if score == opponent_score else float(score > opponent_score)
    return {"state": "ok", "score": score, "opponent_score": opponent_score, "verdict": verdict}


def call_tie() -> dict[str, Any]:
    """The verdict on two equal texts, about which no judge is asked."""
    return {"state": "ok", "score": None, "opponent_score": None, "verdict": 0.5, "is_same": True}


def combine(singles: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The verdict on one prompt: judgments averaged within each answer order, then the two orders averaged.

    A prompt of which a whole order has no verdict has none either: a judge that prefers the first answer, whatever it
    says, would then decide. Such a prompt is missing, with the state that explains it.

    Args:
        singles: `state`, `is_first` (whether the policy's response was shown first), and where the state is `ok`
            `score`, `opponent_score` and `verdict`.
    """
    orders = [[single for single in singles if single["is_first"] is is_first] for is_first in (True, False)]
    good = [[single for single in order if single["state"] == "ok"] for order in orders]
    if not all(good):
        states = Counter(single["state"] for order in orders for single in order)
        state = next((name for name in FAILURES if states[name]), "failed")
        return {"state": state, "score": None, "opponent_score": None, "verdict": None, "singles": list(singles)}
    means = {name: _mean([_mean([single[name] for single in order]) for order in good]) for name in _AVERAGED}
    return {"state": "ok"} | means | {"singles": list(singles)}


_AVERAGED = ("score", "opponent_score", "verdict")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def make_record(prompt: Mapping[str, Any], response: Mapping[str, Any], opponent: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a verdict record that do not hang on the judge."""
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
