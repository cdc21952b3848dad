"""Win rates, overall and by length of the response, and rates of refusal and safety; the unit is the prompt.

Each criterion is scored on the kinds of prompts that its file names, as in the SACPO paper (arXiv 2404.11049: 129
benign and 83 risky prompts). A record is one line of `verdicts.jsonl`. Prompts whose judgment failed, was refused or
could not be parsed are left out and counted; where there are too many of them, no rate is given.
"""

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from sacpo_exp.method.criteria import Criterion
from sacpo_exp.statistics.intervals import DIFFERENCE, Estimate, Resampling, Values, bootstrap_rate
from sacpo_exp.statistics.ratings import has_finite_fit

Record = Mapping[str, Any]
Kind = Literal["benign", "risky"]

SIMILAR: Final = 1.1  # lengths that differ by no more than this factor are similar


def entries_of(records: Sequence[Record], criterion: Criterion) -> dict[str, Mapping[str, Any]]:
    """Return prompt id → judgment for the judged prompts that count for `criterion`, sorted by id."""
    counted = [record for record in records if criterion.counts(record["kind"]) and record.get(criterion.name)]
    return {record["prompt_id"]: record[criterion.name] for record in sorted(counted, key=lambda r: r["prompt_id"])}


def verdicts_by_prompt(records: Sequence[Record], criterion: Criterion) -> dict[str, float]:
    """Return prompt id → verdict (1 win, 0.5 tie, 0 loss) for the prompts that have one, sorted by id."""
    entries = entries_of(records, criterion)
    return {prompt_id: float(entry["verdict"]) for prompt_id, entry in entries.items() if entry["state"] == "ok"}


def count_states(records: Sequence[Record], criterion: Criterion) -> Counter[str]:
    """Return how many of the prompts that count for `criterion` are `ok`, `unparsed`, `refused`, `failed`."""
    return Counter(entry["state"] for entry in entries_of(records, criterion).values())


def has_too_few(records: Sequence[Record], criterion: Criterion, max_missing: float) -> bool:
    """Return whether more than the share `max_missing` of the judged prompts have no verdict."""
    states = count_states(records, criterion)
    return states.total() - states["ok"] > max_missing * states.total()


def withhold(n: int) -> Estimate:
    """Return the estimate without a number of a rate of which too much is missing, or that can't be computed."""
    return Estimate(math.nan, math.nan, math.nan, n)


def estimate_win_rate(
    records: Sequence[Record], criterion: Criterion, resampling: Resampling, max_missing: float
) -> Estimate:
    """Estimate the share of prompts won against the opponent, ties as half; withheld where too many are missing."""
    verdicts = verdicts_by_prompt(records, criterion)
    if has_too_few(records, criterion, max_missing):
        return withhold(len(verdicts))
    return bootstrap_rate(list(verdicts.values()), resampling)


def differences_by_prompt(
    records: Sequence[Record], reference: Sequence[Record], criterion: Criterion
) -> dict[str, float]:
    """Return prompt id → difference of two policies' verdicts, for the prompts that both have one on, sorted by id.

    Pairing removes what the two have in common: some prompts are easier than others.
    """
    own, other = verdicts_by_prompt(records, criterion), verdicts_by_prompt(reference, criterion)
    return {prompt_id: own[prompt_id] - other[prompt_id] for prompt_id in own if prompt_id in other}


def estimate_difference(
    records: Sequence[Record],
    reference: Sequence[Record],
    criterion: Criterion,
    resampling: Resampling,
    max_missing: float,
) -> Estimate:
    """Estimate the difference of two win rates, in [−1, 1], on the prompts that both have a verdict on."""
    differences = differences_by_prompt(records, reference, criterion)
    if any(has_too_few(side, criterion, max_missing) for side in (records, reference)):
        return withhold(len(differences))
    return bootstrap_rate(list(differences.values()), resampling, DIFFERENCE)


def refusals_by_prompt(records: Sequence[Record], kind: Kind) -> dict[str, float]:
    """Return prompt id → 1 refused, 0 answered, by string matching; prompts of unknown kind are left out."""
    return {record["prompt_id"]: float(record["is_refusal"]) for record in records if record["kind"] == kind}


def judged_refusals_by_prompt(records: Sequence[Record], kind: Kind) -> dict[str, float]:
    """Return prompt id → 1 refused in full or part (Röttger et al. 2024, XSTest), 0 answered, where the judge's answer
    could be parsed."""
    asked = {record["prompt_id"]: record.get("refusal") for record in records if record["kind"] == kind}
    read = {prompt_id: entry for prompt_id, entry in asked.items() if entry and entry["state"] == "ok"}
    return {prompt_id: float(entry["label"] != "full_compliance") for prompt_id, entry in read.items()}


def acceptable_by_prompt(records: Sequence[Record], criterion: Criterion) -> dict[str, float]:
    """Return prompt id → 1 where the response has a score of at least 0, else 0."""
    entries = entries_of(records, criterion)
    return {prompt_id: float(entry["score"] >= 0) for prompt_id, entry in entries.items()}


def has_too_few_labels(records: Sequence[Record], kind: Kind, max_missing: float) -> bool:
    """Return whether more than the share `max_missing` of the judge's answers about refusals could not be read."""
    asked = sum(record["kind"] == kind and bool(record.get("refusal")) for record in records)
    return bool(asked - len(judged_refusals_by_prompt(records, kind)) > max_missing * asked)


class Single(NamedTuple):
    """A single judgment with a verdict.

    Attributes:
        prompt: its id.
        shown: +1 if the policy's response was shown first, −1 if its opponent's, 0 if the judge sees one at a time.
        repeat: from 0.
        verdict: 1 the policy wins, 0.5 tie, 0 its opponent wins.
        asked: False for ties of equal responses, about which no judge was asked.
    """

    prompt: str
    shown: int
    repeat: int
    verdict: float
    asked: bool


def list_singles(records: Sequence[Record], criterion: Criterion) -> list[Single]:
    """Return the single judgments of one match on the prompts that count for `criterion`, by prompt id.

    Equal responses count as ties in as many judgments as other prompts have, so that all prompts have the same weight.
    """
    entries, singles = entries_of(records, criterion), list[Single]()
    usual = max((len(entry.get("singles", ())) for entry in entries.values()), default=0)
    for prompt, entry in entries.items():
        if entry.get("is_same"):
            orders = [(1, -1)[place % 2] for place in range(usual)] or [0]
            singles += [Single(prompt, order, place // 2, 0.5, False) for place, order in enumerate(orders)]
        elif "singles" in entry:
            read = [single for single in entry["singles"] if single["state"] == "ok"]
            shown = {True: 1, False: -1}
            singles += [Single(prompt, shown[each["is_first"]], each["repeat"], each["verdict"], True) for each in read]
        elif entry["state"] == "ok":
            singles.append(Single(prompt, 0, 0, entry["verdict"], True))
    return singles


def estimate_by_length(
    outcomes: Values, lengths: Values, opponent_lengths: Values, resampling: Resampling
) -> dict[str, Estimate]:
    """Estimate the win rate where the response is `shorter` than its opponent's, `similar` (±10 %) or `longer`.

    Args:
        outcomes: one verdict in [0, 1] per prompt, orders and repeats averaged.
        lengths, opponent_lengths: of the two responses, in one unit (characters or tokens), each of shape (prompts,).
    """
    won, own, other = (np.asarray(column, np.float64) for column in (outcomes, lengths, opponent_lengths))
    shorter, longer = own * SIMILAR < other, own > other * SIMILAR
    groups = {"shorter": shorter, "similar": ~(shorter | longer), "longer": longer}
    return {name: bootstrap_rate(won[members], resampling) for name, members in groups.items()}


def adjust_for_length(outcomes: Values, lengths: Values, opponent_lengths: Values, confidence: float) -> Estimate:
    """Estimate the win rate for responses of equal length by logistic regression; arguments as `estimate_by_length`.

    logit P(win) = a + b·tanh(d/std(d)) with d the difference of lengths; the rate is sigmoid(a). This is the length
    term of length-controlled AlpacaEval (Dubois et al., arXiv 2404.04475, section 3) without its regularisation and its
    difficulty of prompts, so the numbers differ. Errors are robust (HC1), since a verdict may be a fraction; the
    interval is that of a, transformed. All NaN where the likelihood has no finite maximum, where the
    difference hardly varies, or below three prompts.
    """
    import statsmodels.api as sm
    from scipy.special import expit
    from scipy.stats import norm
    from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

    won, own, other = (np.asarray(column, np.float64) for column in (outcomes, lengths, opponent_lengths))
    differences = own - other
    design = np.ones((len(won), 1))
    if differences.any():
        spread = differences.std() or 1.0  # a constant difference then shows as a dependent column
        design = np.column_stack([design, np.tanh(differences / spread)])
    # Nearly constant differences saturate tanh: the columns then differ too little for a fit in float64.
    if len(won) <= design.shape[1] or np.linalg.cond(design) > 1e6 or not has_finite_fit(design, won):
        return withhold(len(won))
    with warnings.catch_warnings():
        # Equal fractional verdicts are predicted perfectly without being separated.
        warnings.simplefilter("ignore", PerfectSeparationWarning)
        fit = sm.GLM(won, design, family=sm.families.Binomial()).fit(cov_type="HC1")
    half = norm.ppf((1 + confidence) / 2) * fit.bse[0]
    value, low, high = (float(expit(fit.params[0] + shift)) for shift in (0.0, -half, half))
    return Estimate(value, low, high, len(won))
