"""Test one policy after the other, and choose the best among those that are certified to keep their constraints."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Final

import numpy as np

from sacpo_exp.config.studies import NO_ZERO, ChooseConfig, MeasureKind
from sacpo_exp.errors import ConfigError, DataError
from sacpo_exp.evaluation.contests import Contest
from sacpo_exp.evaluation.judging import AbsoluteJudge, criteria_with_zero
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.reporting.choices import CHOICE, FORMAT, KIND, PICTURE, SHARED, Choice, Finding, Tested
from sacpo_exp.reporting.collect import Evaluation
from sacpo_exp.reporting.tables import format_estimate
from sacpo_exp.statistics.intervals import Estimate, Floats, Resampling, bootstrap_rate
from sacpo_exp.statistics.selection import (
    MOST_PROMPTS,
    Outcome,
    certify_by_holm,
    certify_in_sequence,
    count_prompts,
    estimate_chosen,
    find_lower_bound,
    find_p_value,
    find_power,
    pick_best,
)
from sacpo_exp.statistics.win_rate import entries_of, refusals_by_prompt
from sacpo_exp.store import ArtifactSpec, Store, content_hash, hash_of
from sacpo_exp.studies.candidates import AXES, Candidate

log = logging.getLogger(__name__)

SHUFFLE: Final = 0  # a seed of its own: certificates must not depend on `seed`
ROUNDS: Final = 10_000  # of the bootstrap; shared intervals need its far tails
#: Settings that the answer depends on.
ASKED: Final = (
    *("threshold", "constraint", "thresholds", "maximise", "confidence", "over", "measure", "acceptable_score"),
    *("max_over_refusal", "max_missing", "power", "seed"),
)


def describe_prospects(contest: Contest, config: ChooseConfig) -> Iterator[str]:
    """Yield what the prompts of the contest can certify, for each constraint."""
    has_zero = criteria_with_zero(config.judge, config) if isinstance(config.judge, AbsoluteJudge) else []
    for name, threshold in config.limits.items():
        criterion = find_criterion(contest.criteria, name)
        n = sum(criterion.counts(prompt.get("kind")) for prompt in contest.prompts)
        measured = f"{name} {config.measure.value.replace('_', ' ')}"
        yield foresee(measured, threshold, n, find_outcome(config, name, has_zero), config, len(contest.entrants) - 1)


def foresee(name: str, threshold: float, n: int, outcome: Outcome, config: ChooseConfig, policies: int) -> str:
    """Return the power of n prompts for a policy `margin` above the threshold, and how many prompts it needs.

    Where less than twice the margin is left above the threshold, half of what is left is used instead.
    """
    level = config.level if config.is_sequence else config.level / policies  # of the first test
    truth = threshold + min(config.margin, (1 - threshold) / 2)
    needed = count_prompts(threshold, truth, level, outcome, config.power)
    many = f"more than {MOST_PROMPTS:,}" if needed is None else f"about {needed:,}"
    if find_p_value(np.ones(n), threshold, level, outcome) > level:
        text = f"{n} prompts can't certify {name} ≥ {threshold:g}, even if all have the best verdict"
    else:
        power = find_power(n, threshold, truth, level, outcome)
        text = (
            f"{n} prompts certify {name} ≥ {threshold:g} for a policy with a true {truth:.3g} in {power:.0%} of cases"
        )
    return f"{text}; {config.power:.0%} takes {many} prompts."


@dataclass(frozen=True)
class Findings:
    """Policies in the order of their tests, and candidates that were not tested.

    Attributes:
        verdicts: of each policy for the criterion `maximise`, shape (prompts,).
        labels: of the judgments, as far as all policies share them.
    """

    tested: tuple[Tested, ...]
    verdicts: tuple[Floats, ...]
    untested: tuple[Candidate, ...]
    labels: dict[str, Any]


def search(candidates: Sequence[Candidate], config: ChooseConfig) -> Findings:
    """Test the policies in order, in a sequence no further than needed.

    Raises:
        DataError: too many verdicts of a policy are missing.
    """
    looks: list[tuple[Tested, Floats]] = []
    labels: dict[str, Any] = {}

    def p_values() -> Iterator[float]:
        for candidate in candidates:
            evaluation = candidate.look()
            labels.update({name: evaluation.labels[name] for name in (*SHARED, "judge", "prompts")})
            looks.append(look_at(candidate, evaluation, config))
            log.info("tested   %s: p = %.3g", candidate.title, looks[-1][0].p_value)
            yield looks[-1][0].p_value

    if config.is_sequence:
        certified = certify_in_sequence(p_values(), config.level)
    else:
        certified = certify_by_holm(list(p_values()), config.level)
    tested, verdicts = zip(*looks, strict=True)
    tested = tuple(replace(row, is_certified=each) for row, each in zip(tested, certified, strict=True))
    return Findings(tested, verdicts, tuple(candidates[len(looks) :]), labels)


def look_at(candidate: Candidate, evaluation: Evaluation, config: ChooseConfig) -> tuple[Tested, Floats]:
    """Test every constraint on the verdicts of one policy, that of `threshold` first.

    The p-value is that of "at least one constraint is broken" (Berger 1982).
    """
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
    p_value, rate = max(finding.p_value for finding in findings), bootstrap_rate(verdicts, _resampling(config))
    row = Tested(evaluation.id, candidate.title, candidate.number, tuple(findings), p_value, False, rate)
    return row, verdicts


def _resampling(config: ChooseConfig) -> Resampling:
    return Resampling(ROUNDS, config.confidence, config.seed)


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


def list_question(config: ChooseConfig) -> dict[str, Any]:
    """Return the settings that the answer depends on, as plain values."""
    values = {key: getattr(config, key) for key in ASKED}
    plain = {key: value.value if isinstance(value, Enum) else value for key, value in values.items()}
    return plain | {"grid": config.family, "procedure": "fixed_sequence" if config.is_sequence else "holm"}


def answer(findings: Findings, config: ChooseConfig) -> Choice:
    """Return the certified policy with the highest win rate for the criterion `maximise`, or none.

    Raises:
        DataError: policies are certified, but none was judged for `maximise`.
    """
    tested, chosen, rate = findings.tested, None, None
    sentence = _describe_none(tested, config, len(findings.untested))
    if certified := [row for row in tested if row.is_certified]:
        values = [own for own, row in zip(findings.verdicts, tested, strict=True) if row.is_certified]
        if not all(map(len, values)):
            raise DataError(f"no prompt was judged for {config.maximise}, so nothing says which policy is the best.")
        best = pick_best(values)
        chosen, rate = certified[best].policy_id, estimate_chosen(values, best, _resampling(config))
        sentence = _describe_chosen(certified[best], rate, config, len(tested), len(certified))
    untested = tuple(candidate.title for candidate in findings.untested)
    return Choice(sentence, list_question(config), AXES[config.over], chosen, rate, tested, untested)


def _describe_chosen(row: Tested, rate: Estimate, config: ChooseConfig, tested: int, certified: int) -> str:
    procedure = "fixed sequence" if config.is_sequence else f"Holm over {tested}"
    first, *others = row.findings
    parts = [
        f"{first.name} {first.value:.2f}, certified ≥ {first.threshold:g} at {100 * config.confidence:g} % "
        f"(Learn-then-Test, {procedure}, n = {first.n} prompts)"
    ]
    parts += [f"{each.name} {each.value:.2f}, certified ≥ {each.threshold:g} (n = {each.n})" for each in others]
    how = f"n = {rate.n} prompts"
    if certified > 1:
        how = f"the highest of {certified} certified; its interval allows for that, the value does not"
    return f"{row.title}: {'; '.join(parts)}; {config.maximise} {format_estimate(rate)} ({how})."


def _describe_none(tested: Sequence[Tested], config: ChooseConfig, untested: int) -> str:
    nearest = min(tested, key=lambda row: row.p_value)
    finding = max(nearest.findings, key=lambda finding: finding.p_value)
    wanted = f"{finding.name} ≥ {finding.threshold:g} at {100 * config.confidence:g} %"
    left = f" (not tried: {untested})" if untested else ""
    return (
        f"No policy is certified: {nearest.title} comes nearest to {wanted} with {finding.value:.2f} on {finding.n} "
        f"prompts{left}."
    )


def store_choice(store: Store, findings: Findings, config: ChooseConfig) -> Path:
    """Return the folder of the answer with its figure, made now if this was not asked of these verdicts before."""

    def build(folder: Path) -> dict[str, Any]:
        from sacpo_exp.reporting.figures import draw_choice

        choice = answer(findings, config)
        (folder / CHOICE).write_bytes(choice.to_json())
        for kind, content in draw_choice(choice).items():
            (folder / f"{PICTURE}.{kind}").write_bytes(content)
        title = next((row.title for row in choice.tested if row.policy_id == choice.chosen), None)
        counts = {"tested": len(choice.tested), "untested": len(choice.untested), "chosen": choice.chosen}
        return counts | ({"title": title, "rate": asdict(choice.rate)} if choice.rate else {})

    return store.get_or_build(choice_artifact(findings, config), build)


def choice_artifact(findings: Findings, config: ChooseConfig) -> ArtifactSpec:
    """Return the artifact, whose recipe is the question and everything that the answer is computed from."""
    seen = [
        [hash_of(row.policy_id), row.title, [*map(asdict, row.findings)], verdicts.tolist()]
        for row, verdicts in zip(findings.tested, findings.verdicts, strict=True)
    ]
    recipe = {"format": FORMAT, "question": list_question(config), "seen": content_hash(seen)}
    labels = findings.labels
    slug = f"{config.over.value}.{config.measure.value}.{config.threshold:g}.{labels['judge']}.{labels['prompts']}"
    return ArtifactSpec(KIND, slug, recipe, tuple(row.policy_id for row in findings.tested), labels)


def count_others(store: Store, folder: Path) -> int:
    """Return how many other questions were asked of the same judge, prompts and responses."""
    made = {path.name: manifest.labels for path, manifest in store.manifests() if manifest.kind == KIND}
    own = [made[folder.name][key] for key in SHARED]
    return sum([labels[key] for key in SHARED] == own for labels in made.values()) - 1
