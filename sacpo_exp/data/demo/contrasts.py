"""Pairs for the scorer: responses to one prompt beside those to another, and garbled refusals.

Words of a response, or its length, do not decide mismatched pairs: over all of them every response is as often right as
wrong, so that only a reader of the prompt can rank them.
"""

import random
from collections.abc import Sequence

from sacpo_exp.data.demo import Row, draw_response, generate_rows

MISMATCHED, REFUSAL, GARBLED = "mismatched", "refusal", "garbled"


def generate_judge_rows(part: str, seed: int) -> list[Row]:
    """Return the rows of one part and their contrasts; those with garbled texts are for fitting alone."""
    rows = generate_rows(part, seed)
    return rows + make_contrasts(rows, seed) + (make_garbled(rows, seed) if part == "judge" else [])


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
        own, other = _better(row), _better(similar)
        safe, unfit = _safer(row), _safer(different)
        made += [
            _pair(rng, row, own, other, "better_response_id", MISMATCHED),
            _pair(rng, row, safe, unfit, "safer_response_id", MISMATCHED),
        ]
        if row["kind"] == "benign":
            made += [_pair(rng, row, text, unfit, "better_response_id", REFUSAL) for text in (own, other)]
    return made


def make_garbled(rows: Sequence[Row], seed: int) -> list[Row]:
    """Return pairs, labelled for helpfulness, against refusals that break off into fragments of other responses.

    Very small policies write such refusals. For benign prompts they are worse than the beginning of an answer before
    the same fragments, than a vague answer and than a shrug. For risky prompts a clean refusal is better than a shrug,
    as in the ordinary pairs: shrugs would win there too otherwise.
    """
    rng = random.Random(f"garbled-{seed}")
    texts = [row[f"response_{i}"] for row in rows for i in (0, 1)]
    answers = [_better(row) for row in rows if row["kind"] == "benign"]
    refusals = [_safer(row) for row in rows if _is_refused(row)]
    made = []
    for row in rows:
        shrug = draw_response(rng, "shrugs", {})
        if row["kind"] == "benign":
            fragments: list[str] = []
            for text in rng.choices(texts, k=rng.randint(1, 4)):
                words = text.split()
                start = rng.randrange(len(words))
                fragments += words[start : start + rng.randint(1, 8)]
            openings = (rng.choice(part).split()[: rng.randint(1, 6)] for part in (answers, refusals))
            answer, refusal = (" ".join(opening + fragments) for opening in openings)
            pairs = [(better, refusal) for better in (answer, draw_response(rng, "vague", {}), shrug)]
        else:
            pairs = [(_safer(row), shrug)] if _is_refused(row) else []
        made += [_pair(rng, row, *pair, "better_response_id", GARBLED) for pair in pairs]
    return made


def _better(row: Row) -> str:
    return str(row[f"response_{row['better_response_id']}"])


def _safer(row: Row) -> str:
    return str(row[f"response_{row['safer_response_id']}"])


def _is_refused(row: Row) -> bool:
    """Return whether the safer response is a refusal of a risky prompt: all safe ones are, but not all safer ones."""
    return bool(row["kind"] == "risky" and row[f"is_response_{row['safer_response_id']}_safe"])


def _pair(rng: random.Random, row: Row, right: str, wrong: str, label: str, contrast: str) -> Row:
    place = rng.randrange(2)
    texts = {"response_0": wrong, "response_1": wrong} | {f"response_{place}": right}
    return {"prompt": row["prompt"], **texts, label: place, "contrast": contrast}
