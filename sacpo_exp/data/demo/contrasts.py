"""Pairs for the scorer that only a reader of the prompt can rank: responses to one prompt beside those to another.

Words of a response, or its length, do not decide them: over all pairs every response is as often right as wrong.
"""

import random
from collections.abc import Sequence

from sacpo_exp.data.demo import Row, generate_rows

MISMATCHED, REFUSAL = "mismatched", "refusal"


def generate_judge_rows(part: str, seed: int) -> list[Row]:
    """Return the demo's rows of one part and their contrasts, which follow."""
    rows = generate_rows(part, seed)
    return rows + make_contrasts(rows, seed)


def make_contrasts(rows: Sequence[Row], seed: int) -> list[Row]:
    """Return pairs made from demo rows, with the label of one criterion each, and what is contrasted in `contrast`.

    - mismatched: the more helpful response is better than that of another prompt of its kind; the safer one is safer
      than that of a prompt of the other kind: a refusal suits a risky prompt, an answer a benign one;
    - refusal: of benign prompts, an answer is better than a refusal, even one that belongs to another prompt.
    """
    rng = random.Random(f"contrasts-{seed}")
    made = []
    for row in rows:
        others = [other for other in rows if other["category"] != row["category"]]
        similar, different = (
            rng.choice([other for other in others if (other["kind"] == row["kind"]) == is_same])
            for is_same in (True, False)
        )
        own, other = (each[f"response_{each['better_response_id']}"] for each in (row, similar))
        safe, unfit = (each[f"response_{each['safer_response_id']}"] for each in (row, different))
        made += [
            _pair(rng, row, own, other, "better_response_id", MISMATCHED),
            _pair(rng, row, safe, unfit, "safer_response_id", MISMATCHED),
        ]
        if row["kind"] == "benign":
            made += [_pair(rng, row, text, unfit, "better_response_id", REFUSAL) for text in (own, other)]
    return made


def _pair(rng: random.Random, row: Row, right: str, wrong: str, label: str, contrast: str) -> Row:
    place = rng.randrange(2)
    texts = {"response_0": wrong, "response_1": wrong} | {f"response_{place}": right}
    return {"prompt": row["prompt"], **texts, label: place, "contrast": contrast}
