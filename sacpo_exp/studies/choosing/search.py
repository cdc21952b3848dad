"""Look at one policy after the other, and say which are certified."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sacpo_exp.config.choosing import ChooseConfig
from sacpo_exp.errors import DataError
from sacpo_exp.reporting.groups import Evaluation
from sacpo_exp.statistics.p_values import find_p_value
from sacpo_exp.statistics.selection import certify_by_holm, certify_in_sequence, combine_constraints
from sacpo_exp.studies.choosing.candidates import Candidate
from sacpo_exp.studies.choosing.measures import Sample, find_criterion, find_verdicts, list_samples

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Look:
    """What one policy's verdicts say.

    Attributes:
        p_values: one per sample; the policy's own is the largest.
        verdicts: for the criterion `maximise`, by prompt id; None where one is missing.
    """

    candidate: Candidate
    evaluation: Evaluation
    samples: tuple[Sample, ...]
    p_values: tuple[float, ...]
    verdicts: dict[str, float | None]

    @property
    def p_value(self) -> float:
        return combine_constraints(self.p_values)


@dataclass(frozen=True)
class Findings:
    """All looks, in the order of the tests, which of them are certified, and who was not looked at."""

    looks: tuple[Look, ...]
    certified: tuple[bool, ...]
    untested: tuple[Candidate, ...]


def search(candidates: Sequence[Candidate], config: ChooseConfig) -> Findings | None:
    """Look at the policies in order, in a sequence no further than needed; None while a judge is still at work.

    Raises:
        DataError: too many verdicts of a policy are missing.
    """
    looks: list[Look | None] = []

    def p_values() -> Iterator[float]:
        for candidate in candidates:
            looks.append(look_at(candidate, config))
            if looks[-1] is not None:
                yield looks[-1].p_value
            elif config.is_sequence:
                return  # what follows hangs on it

    if config.is_sequence:
        certified = certify_in_sequence(p_values(), config.level)
    else:
        certified = certify_by_holm(list(p_values()), config.level)
    found = [look for look in looks if look is not None]
    if len(found) < len(looks):
        return None
    return Findings(tuple(found), tuple(certified), tuple(candidates[len(found) :]))


def look_at(candidate: Candidate, config: ChooseConfig) -> Look | None:
    """One policy's verdicts, made now if need be."""
    evaluation = candidate.look()
    if evaluation is None:
        return None
    records, criteria = evaluation.records, evaluation.criteria
    samples = tuple(list_samples(records, config, criteria, evaluation.labels["has_zero"]))
    verdicts = find_verdicts(records, find_criterion(criteria, config.maximise))
    missing_of_maximised = sum(verdict is None for verdict in verdicts.values())
    for name, missing, n in (*_count_missing(samples), (config.maximise, missing_of_maximised, len(verdicts))):
        if missing > config.max_missing * n:
            raise DataError(
                f"{missing} of {n} judgments of {name} are missing for {candidate.title}, more than `max_missing` = "
                f"{config.max_missing:g} allows. Ask again: sacpo eval with the same overrides"
            )
    p_values = tuple(
        find_p_value(
            sample.values, sample.measure.to_unit(sample.measure.threshold), config.level, sample.measure.outcome
        )
        for sample in samples
    )
    look = Look(candidate, evaluation, samples, p_values, verdicts)
    tightest = samples[p_values.index(look.p_value)].measure
    log.info(
        "tested   %s: %s %s %g, p = %.3g",
        candidate.title,
        tightest.name,
        tightest.sign,
        tightest.threshold,
        look.p_value,
    )
    return look


def _count_missing(samples: Sequence[Sample]) -> Iterator[tuple[str, int, int]]:
    """(name, missing, all) of each constraint's prompts."""
    for name in dict.fromkeys(sample.measure.about for sample in samples):
        own = [sample for sample in samples if sample.measure.about == name]
        yield name, sum(sample.missing for sample in own), sum(len(sample.values) for sample in own)
