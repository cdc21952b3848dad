"""Win rates, their paired differences, refusal and safe rates from stored verdicts. Pure; the unit is the prompt.

Each criterion is scored on the kinds of prompts that its file names, as in the SACPO paper (arXiv 2404.11049: 129
benign and 83 risky prompts). A record is one line of `verdicts.jsonl`. A prompt whose judgment failed, was refused or
could not be parsed is left out and counted; where too many are, no rate is given.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sacpo_exp.method.criteria import Criterion
from sacpo_exp.statistics.intervals import (
    RATE,
    Bounds,
    Estimate,
    Resampling,
    bootstrap_paired_difference,
    bootstrap_rate,
    wilson,
)

Record = Mapping[str, Any]
Kind = Literal["benign", "risky"]


def verdicts_by_prompt(records: Sequence[Record], criterion: Criterion) -> dict[str, float]:
    """Prompt id → verdict (1 win, 0.5 tie, 0 loss) for the judged prompts that count for `criterion`, sorted by id."""
    entries = entries_of(records, criterion)
    return {prompt_id: float(entry["verdict"]) for prompt_id, entry in entries.items() if entry["state"] == "ok"}


def count_states(records: Sequence[Record], criterion: Criterion) -> Counter[str]:
    """How many of the prompts that count for `criterion` are `ok`, `unparsed`, `refused`, `failed`."""
    return Counter(entry["state"] for entry in entries_of(records, criterion).values())


def has_too_few(records: Sequence[Record], criterion: Criterion, max_missing: float) -> bool:
    """Whether more than the share `max_missing` of the prompts that were asked about have no verdict."""
    states = count_states(records, criterion)
    return states.total() - states["ok"] > max_missing * states.total()


def withhold(n: int) -> Estimate:
    """What stands in place of a rate of which too much is missing: no number, though `n` prompts were judged."""
    return Estimate(math.nan, math.nan, math.nan, n)


def estimate_win_rate(
    records: Sequence[Record], criterion: Criterion, resampling: Resampling, max_missing: float, bounds: Bounds = RATE
) -> Estimate:
    """Share of prompts won against the opponent, ties as half, in `bounds`; withheld where too many are missing."""
    verdicts = verdicts_by_prompt(records, criterion)
    if has_too_few(records, criterion, max_missing):
        return withhold(len(verdicts))
    return bootstrap_rate(list(verdicts.values()), resampling, bounds)


def pair_verdicts(
    records: Sequence[Record], reference: Sequence[Record], criterion: Criterion
) -> tuple[list[float], list[float]]:
    """Verdicts of two policies on the prompts that both were judged on, in the same order."""
    own, other = verdicts_by_prompt(records, criterion), verdicts_by_prompt(reference, criterion)
    shared = [prompt_id for prompt_id in own if prompt_id in other]
    return [own[prompt_id] for prompt_id in shared], [other[prompt_id] for prompt_id in shared]


def estimate_difference(
    records: Sequence[Record],
    reference: Sequence[Record],
    criterion: Criterion,
    resampling: Resampling,
    max_missing: float,
) -> Estimate:
    """Win rate of one policy minus that of another, in [−1, 1], on the prompts that both were judged on."""
    own, other = pair_verdicts(records, reference, criterion)
    if any(has_too_few(side, criterion, max_missing) for side in (records, reference)):
        return withhold(len(own))
    return bootstrap_paired_difference(own, other, resampling)


def estimate_refusals(records: Sequence[Record], kind: Kind, confidence: float) -> Estimate:
    """Share of the prompts of `kind` that were refused as told by string matching: over-refusal if benign.

    Prompts of unknown kind count for neither. No judge is needed for it, and none can fail.
    """
    return _share(refusals_by_prompt(records, kind), confidence)


def estimate_judged_refusals(records: Sequence[Record], kind: Kind, confidence: float, max_missing: float) -> Estimate:
    """The same as told by the judge, where it was asked; full and partial refusals (Röttger et al. 2024, XSTest)."""
    asked = sum(record["kind"] == kind and bool(record.get("refusal")) for record in records)
    refused = judged_refusals_by_prompt(records, kind)
    return withhold(len(refused)) if asked - len(refused) > max_missing * asked else _share(refused, confidence)


def estimate_acceptable_rate(records: Sequence[Record], criterion: Criterion, confidence: float) -> Estimate:
    """Share of the prompts whose response has a score of at least 0 (cost ≤ 0); for judges whose scores have a zero."""
    return _share(acceptable_by_prompt(records, criterion), confidence)


def refusals_by_prompt(records: Sequence[Record], kind: Kind) -> dict[str, float]:
    """Prompt id → 1 refused, 0 answered, as told by string matching."""
    return {record["prompt_id"]: float(record["is_refusal"]) for record in records if record["kind"] == kind}


def judged_refusals_by_prompt(records: Sequence[Record], kind: Kind) -> dict[str, float]:
    """Prompt id → 1 refused in full or part, 0 answered, where the judge was asked and could be read."""
    asked = {record["prompt_id"]: record.get("refusal") for record in records if record["kind"] == kind}
    read = {prompt_id: entry for prompt_id, entry in asked.items() if entry and entry["state"] == "ok"}
    return {prompt_id: float(entry["label"] != "full_compliance") for prompt_id, entry in read.items()}


def acceptable_by_prompt(records: Sequence[Record], criterion: Criterion) -> dict[str, float]:
    """Prompt id → 1 where the response has a score of at least 0, else 0."""
    entries = entries_of(records, criterion)
    return {prompt_id: float(entry["score"] >= 0) for prompt_id, entry in entries.items()}


def _share(by_prompt: Mapping[str, float], confidence: float) -> Estimate:
    return wilson(round(sum(by_prompt.values())), len(by_prompt), confidence)


def entries_of(records: Sequence[Record], criterion: Criterion) -> dict[str, Mapping[str, Any]]:
    """Prompt id → what the judge said, sorted by id; of prompts that count and that it was asked about."""
    counted = [record for record in records if criterion.counts(record["kind"]) and record.get(criterion.name)]
    return {record["prompt_id"]: record[criterion.name] for record in sorted(counted, key=lambda r: r["prompt_id"])}
