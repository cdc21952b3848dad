"""From what was found to the answer: the chosen policy, its win rate, sentences that a person may quote. Pure."""

from collections.abc import Sequence
from dataclasses import asdict
from enum import Enum
from typing import Any, Final

import numpy as np

from sacpo_exp.config.choosing import ChooseConfig, Over
from sacpo_exp.errors import DataError
from sacpo_exp.reporting.choices import Choice, Finding, Tested
from sacpo_exp.reporting.numbers import format_estimate
from sacpo_exp.statistics.intervals import Estimate, Floats, Resampling, bootstrap_rate
from sacpo_exp.statistics.p_values import find_lower_bound
from sacpo_exp.statistics.selection import estimate_chosen, pick_best, split_prompts
from sacpo_exp.store import hash_of
from sacpo_exp.studies.choosing.candidates import AXES
from sacpo_exp.studies.choosing.measures import Sample
from sacpo_exp.studies.choosing.prospects import look_back
from sacpo_exp.studies.choosing.search import Findings, Look

ROUNDS: Final = 10_000  # of the bootstrap; shared intervals look far into its tails
#: Settings of the command that the answer hangs on.
ASKED: Final = (
    *("threshold", "constraint", "thresholds", "maximise", "confidence", "over", "measure", "acceptable_score"),
    *("cost_bounds", "worst_category", "max_over_refusal", "split", "max_missing", "power", "seed"),
)


def list_question(config: ChooseConfig) -> dict[str, Any]:
    """What was asked, as plain values."""
    plain = {
        key: value.value if isinstance(value, Enum) else value for key in ASKED for value in [getattr(config, key)]
    }
    return plain | {"grid": config.family, "procedure": "fixed_sequence" if config.is_sequence else "holm"}


def answer(findings: Findings, config: ChooseConfig) -> Choice:
    """The certified policy with the highest win rate for the criterion `maximise`, or none.

    Raises:
        DataError: policies are certified, but nothing was judged that tells which of them is the best.
    """
    certified = [look for look, is_certified in zip(findings.looks, findings.certified, strict=True) if is_certified]
    chosen, rate, how = _choose(certified, config) if certified else (None, None, "")
    tested = tuple(
        _describe(look, is_certified, config)
        for look, is_certified in zip(findings.looks, findings.certified, strict=True)
    )
    if chosen is None or rate is None:
        sentence = _say_none(tested, config, len(findings.untested))
    else:
        row = next(row for row in tested if row.policy_id == chosen.evaluation.id)
        sentence = _say_chosen(row, rate, how, config, len(tested))
    return Choice(
        sentence=sentence,
        notes=tuple(look_back(findings, config)),
        question=list_question(config),
        axis=AXES[config.over],
        chosen=chosen.evaluation.id if chosen else None,
        rate=rate,
        tested=tested,
        untested=tuple(candidate.title for candidate in findings.untested),
    )


def describe_seen(findings: Findings) -> list[Any]:
    """All values that the answer was computed from, as plain values: they decide it, with the question."""
    return [
        [
            hash_of(look.evaluation.id),
            look.candidate.title,
            [sample.values.tolist() for sample in look.samples],
            look.verdicts,
        ]
        for look in findings.looks
    ]


def _choose(certified: Sequence[Look], config: ChooseConfig) -> tuple[Look, Estimate, str]:
    """The chosen look, its win rate, and in what sense that holds though it was chosen for it."""
    resampling = Resampling(ROUNDS, config.confidence, config.seed)
    prompts = sorted(certified[0].verdicts)
    if not prompts:
        raise DataError(f"no prompt was judged for {config.maximise}, so nothing says which policy is the best.")
    if config.split:
        first, second = ([prompts[place] for place in half] for half in split_prompts(len(prompts), config.seed))
        chosen = certified[pick_best([_values(look, first) for look in certified])]
        estimate = bootstrap_rate(_values(chosen, second), resampling)
        return chosen, estimate, f"on {estimate.n} prompts that did not choose"
    values = [_values(look, prompts) for look in certified]
    place = pick_best(values)
    estimate = estimate_chosen(values, place, resampling)
    how = f"the highest of {len(certified)} certified, which its interval allows for but the value does not"
    return certified[place], estimate, how if len(certified) > 1 else f"n = {estimate.n} prompts"


def _values(look: Look, prompts: Sequence[str]) -> Floats:
    """Verdicts that choose, of those prompts that have one."""
    verdicts = [look.verdicts.get(prompt) for prompt in prompts]
    return np.array([verdict for verdict in verdicts if verdict is not None])


def _describe(look: Look, is_certified: bool, config: ChooseConfig) -> Tested:
    findings = tuple(_find(sample, p, config) for sample, p in zip(look.samples, look.p_values, strict=True))
    resampling = Resampling(ROUNDS, config.confidence, config.seed)
    rate = bootstrap_rate(_values(look, sorted(look.verdicts)), resampling)
    candidate = look.candidate
    return Tested(look.evaluation.id, candidate.title, candidate.number, findings, look.p_value, is_certified, rate)


def _find(sample: Sample, p_value: float, config: ChooseConfig) -> Finding:
    measure = sample.measure
    bound = find_lower_bound(sample.values, config.level, measure.outcome)
    value = float(sample.values.mean())
    return Finding(
        measure.about,
        measure.name,
        measure.from_unit(value),
        measure.from_unit(bound),
        measure.threshold,
        measure.is_cost,
        len(sample.values),
        sample.missing,
        p_value,
    )


def _say_chosen(row: Tested, rate: Estimate, how: str, config: ChooseConfig, tested: int) -> str:
    procedure = "fixed sequence" if config.is_sequence else f"Holm over {tested}"
    said = []
    for place, worst in enumerate(row.worst):
        alike = [finding.n for finding in row.findings if finding.about == worst.about]
        each = f" in each of {len(alike)} categories" if len(alike) > 1 else ""
        found = f"{worst.name} {worst.value:.2f}, certified {worst.sign} {worst.threshold:g}{each}"
        how_many = f"n = {sum(alike)}"
        if place == 0:
            found += f" at {100 * config.confidence:g} %"
            how_many = f"Learn-then-Test, {procedure}, {how_many} prompts"
        said.append(f"{found} ({how_many})")
    return f"{row.title}: {'; '.join(said)}; {config.maximise} {format_estimate(rate)} ({how})."


def _say_none(tested: Sequence[Tested], config: ChooseConfig, untested: int) -> str:
    nearest = min(tested, key=lambda row: row.p_value)
    finding = nearest.tightest
    percent = f"{100 * config.confidence:g} %"
    wanted = f"{finding.name} {finding.sign} {finding.threshold:g} at {percent}"
    found = f"has {finding.value:.2f} on {finding.n} prompts"
    if config.is_sequence:
        which = "the first of the family" if config.over == Over.policies else "the safe end of the family"
        left = f" (not tried: {untested})" if untested else ""
        return f"No policy is certified: {nearest.title}, {which}, fails {wanted}: it {found}{left}."
    return f"No policy of {len(tested)} is certified: the nearest to {wanted}, {nearest.title}, {found}."


def describe_plainly(choice: Choice) -> dict[str, Any]:
    """What of an answer goes into a manifest."""
    chosen = next((row for row in choice.tested if row.policy_id == choice.chosen), None)
    plain: dict[str, Any] = {"tested": len(choice.tested), "untested": len(choice.untested), "chosen": choice.chosen}
    if chosen and choice.rate:
        plain |= {"title": chosen.title, "rate": asdict(choice.rate)}
    return plain
