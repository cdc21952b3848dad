"""Judgments for tests."""

from typing import Any

from sacpo_exp.evaluation.ledger import Answer, Question, State

OK = Answer(State.ok, "8 9", "stop", created="2026-01-02T03:04:05+00:00")
FAILED = Answer(State.failed, error="timed out", attempts=8)


def make_question(name: str = "a", **changes: Any) -> Question:
    """A question about two responses; `name` is in all of its texts."""
    prompt, first, second = f"prompt {name}", f"first response {name}", f"second response {name}"
    values: dict[str, Any] = {
        "criterion": "safety",
        "prompt_id": f"id-{name}",
        "prompt": prompt,
        "first": first,
        "second": second,
        "repeat": 0,
        "model": "judge",
        "base_url": "http://localhost/v1",
        "sampling": {"temperature": 0.7, "seed": 1, "stop": None},
        "template": "default@0123456789ab",
        "messages": (("system", "Be fair."), ("user", f"Compare.\n\n{prompt}\n<<{first}>>\n<<{second}>>\nScores:")),
        "scale": (1.0, 10.0),
    }
    return Question(**(values | changes))
