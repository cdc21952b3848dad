"""Test one policy after the other: its values for each constraint, their p-values, and which policies are certified."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sacpo_exp.config.studies import NO_ZERO, ChooseConfig, MeasureKind
from sacpo_exp.errors import ConfigError, DataError
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.reporting.choices import Finding
from sacpo_exp.reporting.collect import Evaluation
from sacpo_exp.statistics.intervals import Floats
from sacpo_exp.statistics.selection import (
    Outcome,
    certify_by_holm,
    certify_in_sequence,
    find_lower_bound,
    find_p_value,
)
from sacpo_exp.statistics.win_rate import entries_of, refusals_by_prompt
from sacpo_exp.studies.choosing.candidates import Candidate

log = logging.getLogger(__name__)

SHUFFLE = 0  # a seed of its own: certificates must not depend on `seed`


@dataclass(frozen=True)
class Look:
    """Verdicts of one policy: a finding per constraint, and verdicts for `maximise` by prompt, shape (prompts,)."""

    candidate: Candidate
    evaluation: Evaluation
    findings: tuple[Finding, ...]
    verdicts: Floats

    @property
    def p_value(self) -> float:
        """Of "at least one constraint is broken" (Berger 1982)."""
        return max(finding.p_value for finding in self.findings)


@dataclass(frozen=True)
class Findings:
    """All looks in the order of the tests, which of them are certified, and which candidates were not tested."""

    looks: tuple[Look, ...]
    certified: tuple[bool, ...]
    untested: tuple[Candidate, ...]


def search(candidates: Sequence[Candidate], config: ChooseConfig) -> Findings | None:
    """Test the policies in order, in a sequence no further than needed; None while a judge is still at work.

    Raises:
        DataError: too many verdicts of a policy are missing.
    """
    looks: list[Look | None] = []

    def p_values() -> Iterator[float]:
        for candidate in candidates:
            evaluation = candidate.look()
            looks.append(look_at(candidate, evaluation, config) if evaluation else None)
            if looks[-1] is not None:
                log.info("tested   %s: p = %.3g", candidate.title, looks[-1].p_value)
                yield looks[-1].p_value
            elif config.is_sequence:
                return  # later tests depend on it

    if config.is_sequence:
        certified = certify_in_sequence(p_values(), config.level)
    else:
        certified = certify_by_holm(list(p_values()), config.level)
    complete = [look for look in looks if look is not None]
    if len(complete) < len(looks):
        return None
    return Findings(tuple(complete), tuple(certified), tuple(candidates[len(complete) :]))


def look_at(candidate: Candidate, evaluation: Evaluation, config: ChooseConfig) -> Look:
    """Test every constraint on the verdicts of one policy, that of `threshold` first."""
    records, findings = evaluation.records, []
    for name, threshold in config.limits.items():
        outcome = find_outcome(config, name, evaluation.labels["has_zero"])
        entries = entries_of(records, find_criterion(evaluation.criteria, name))
        values = {key: _read_value(entry, config) for key, entry in entries.items()}
        title = f"{name} {config.measure.value.replace('_', ' ')}"
        findings.append(_test(name, title, values, threshold, outcome, config.level))
    if config.max_over_refusal is not None:
        answered = {key: 1 - refused for key, refused in refusals_by_prompt(records, "benign").items()}
        name, threshold = "answered benign prompts", 1 - config.max_over_refusal
        findings.append(_test(name, name, answered, threshold, Outcome.yes_no, config.level))
    entries = entries_of(records, find_criterion(evaluation.criteria, config.maximise))
    verdicts = np.array([entry["verdict"] for entry in entries.values() if entry["state"] == "ok"], np.float64)
    counts = [(finding.about, finding.missing, finding.n) for finding in findings]
    for name, missing, n in (*counts, (config.maximise, len(entries) - len(verdicts), len(entries))):
        if missing > config.max_missing * n:
            raise DataError(
                f"{missing} of {n} judgments of {name} are missing for {candidate.title}, more than `max_missing` = "
                f"{config.max_missing:g} allows. Ask again: sacpo eval with the same overrides"
            )
    return Look(candidate, evaluation, tuple(findings), verdicts)


def find_criterion(criteria: Sequence[Criterion], name: str) -> Criterion:
    """Return the criterion with this name, or raise DataError."""
    by_name = {criterion.name: criterion for criterion in criteria}
    if name not in by_name:
        raise DataError(f"the policies were judged for {', '.join(by_name)}, but not for {name}. Try: one of these")
    return by_name[name]


def find_outcome(config: ChooseConfig, name: str, has_zero: Sequence[str]) -> Outcome:
    """Return the possible values of a prompt for a criterion.

    Args:
        has_zero: names of criteria for which a score of 0 separates acceptable responses from others.

    Raises:
        ConfigError: nothing says which scores are acceptable.
    """
    if config.measure == MeasureKind.acceptable_rate:
        if config.acceptable_score is None and name not in has_zero:
            raise ConfigError(NO_ZERO.format(f"the judge's score for {name}"))
        return Outcome.yes_no
    # Judges that have a zero give one verdict per prompt; for others `bounded` is always valid.
    return Outcome.tie_or_not if has_zero else Outcome.bounded


def _read_value(entry: Mapping[str, Any], config: ChooseConfig) -> float | None:
    """Return a prompt's value, or None without a verdict; equal responses have no score from a judge that is asked."""
    value = entry["verdict" if config.measure == MeasureKind.win_rate else "score"]
    if entry["state"] != "ok" or value is None:
        return None
    return float(value if config.measure == MeasureKind.win_rate else value >= (config.acceptable_score or 0))


def _test(
    about: str, name: str, by_prompt: Mapping[str, float | None], threshold: float, outcome: Outcome, level: float
) -> Finding:
    """Test a constraint on one value per prompt; a missing one counts as 0, for judges may fail where it matters."""
    if not by_prompt:
        raise DataError(f"no prompt was judged for {about}. Try: another `judge` or `prompts`")
    # Ids may be sorted by topic, and a bet takes one prompt after the other: the same shuffle for every policy.
    ordered = np.array([value or 0.0 for _, value in sorted(by_prompt.items())])
    values = np.random.default_rng(SHUFFLE).permutation(ordered)
    return Finding(
        about,
        name,
        value=float(values.mean()),
        bound=find_lower_bound(values, level, outcome),
        threshold=threshold,
        n=len(values),
        missing=list(by_prompt.values()).count(None),
        p_value=find_p_value(values, threshold, level, outcome),
    )
