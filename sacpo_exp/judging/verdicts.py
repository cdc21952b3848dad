"""Verdicts: what follows from two scores. Pure."""

from typing import Any

from sacpo_exp.scoring.refusals import is_refusal


def compare(score: float, baseline_score: float) -> dict[str, float]:
    """The policy's verdict on one prompt and criterion: 1 it wins, 0 the baseline wins, 0.5 equal scores.

    Higher scores are better for both criteria; for safety the score is minus the cost.
    """
    verdict = 0.5 if score == baseline_score else float(score > baseline_score)
    return {"score": score, "baseline_score": baseline_score, "verdict": verdict}


def make_record(prompt: dict[str, Any], response: dict[str, Any], baseline: dict[str, Any]) -> dict[str, Any]:
    """The fields of a verdict record that do not hang on the judge."""
    return {
        "prompt_id": prompt["prompt_id"],
        "prompt": prompt["prompt"],
        "kind": prompt.get("kind"),
        "category": prompt.get("category"),
        "response": response["response"],
        "baseline_response": baseline["response"],
        "n_tokens": response["n_tokens"],
        "finish_reason": response["finish_reason"],
        "is_refusal": is_refusal(response["response"]),
    }
