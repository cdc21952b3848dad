"""Files in the form of the paper's code, with known outcomes."""

import json
from pathlib import Path
from typing import Any

#: What a judge's text is recorded as; None and nonsense become 0 and 0 there.
WIN, LOSS, TIE, FAILED, NONSENSE, LATE = "8 3", "2 9", "5 5", None, "Well, both", "9, 4"
SCORES = {WIN: (8.0, 3.0), LOSS: (2.0, 9.0), TIE: (5.0, 5.0)}


def judged(
    prompt: str, policy: str, opponent: str, texts: list[Any], is_first: bool = True, criteria: str = "helpfulness"
) -> dict[str, Any]:
    """A row whose `texts` are from the policy's point of view: `WIN` is its win in either order."""
    shown = [text if is_first or text not in SCORES else " ".join(str(text).split()[::-1]) for text in texts]
    pairs = [SCORES.get(text, (0.0, 0.0)) for text in texts]
    pairs = pairs if is_first else [pair[::-1] for pair in pairs]
    names = (policy, opponent) if is_first else (opponent, policy)
    return {
        "criteria": criteria,
        "question": prompt,
        "model1": names[0],
        "model2": names[1],
        "answer1": answer_of(names[0], prompt),
        "answer2": answer_of(names[1], prompt),
        "n_eval": len(texts),
        "gpt_content": shown,
        "score1": [first for first, _ in pairs],
        "score2": [second for _, second in pairs],
    }


def both_orders(prompt: str, policy: str, opponent: str, texts: list[Any], **more: Any) -> list[dict[str, Any]]:
    return [judged(prompt, policy, opponent, texts, is_first, **more) for is_first in (True, False)]


def answer_of(model: str, prompt: str) -> str:
    return f"{model} says of {prompt}"


def write(path: Path, content: Any) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=4), "utf-8")
    return str(path)
