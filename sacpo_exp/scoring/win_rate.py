"""Win rates, their paired differences and refusal rates from stored verdicts. Pure; the unit of analysis is the prompt.

As in the SACPO paper (arXiv 2404.11049: 129 and 83 prompts) helpfulness is scored on benign prompts, harmlessness, the
criterion `safety`, on risky ones. A record is one line of `verdicts.jsonl`. Failed records are left out and counted.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sacpo_exp.config.schema import Criterion
from sacpo_exp.scoring.intervals import Estimate, Resampling, bootstrap_mean, bootstrap_paired_difference, wilson

Record = Mapping[str, Any]

#: The kind of prompt that a criterion is scored on. Prompts of unknown kind (null) count for both.
SCORED_KIND = {Criterion.helpfulness: "benign", Criterion.safety: "risky"}


def judged(records: Sequence[Record]) -> list[Record]:
    """The records whose judgment did not fail."""
    return [record for record in records if record["state"] == "ok"]


def verdicts_by_prompt(records: Sequence[Record], criterion: Criterion) -> dict[str, float]:
    """Prompt id → verdict (1 win, 0.5 tie, 0 loss) for the judged prompts that count for `criterion`, sorted by id."""
    kinds = (SCORED_KIND[criterion], None)
    counted = [record for record in judged(records) if record["kind"] in kinds]
    return dict(sorted((record["prompt_id"], float(record[criterion.value]["verdict"])) for record in counted))


def estimate_win_rate(records: Sequence[Record], criterion: Criterion, resampling: Resampling) -> Estimate:
    """Share of prompts won against the baseline, ties as half, in [0, 1]."""
    return bootstrap_mean(list(verdicts_by_prompt(records, criterion).values()), resampling)


def estimate_difference(
    records: Sequence[Record], reference: Sequence[Record], criterion: Criterion, resampling: Resampling
) -> Estimate:
    """Win rate of one policy minus that of another, in [−1, 1], on the prompts that both were judged on."""
    own, other = verdicts_by_prompt(records, criterion), verdicts_by_prompt(reference, criterion)
    shared = [prompt_id for prompt_id in own if prompt_id in other]
    return bootstrap_paired_difference(
        [own[prompt_id] for prompt_id in shared], [other[prompt_id] for prompt_id in shared], resampling
    )


def estimate_refusals(records: Sequence[Record], kind: Literal["benign", "risky"], confidence: float) -> Estimate:
    """Share of the prompts of `kind` that were refused: over-refusal if benign. Of unknown kind, none counts."""
    refused = [bool(record["is_refusal"]) for record in judged(records) if record["kind"] == kind]
    return wilson(sum(refused), len(refused), confidence)
