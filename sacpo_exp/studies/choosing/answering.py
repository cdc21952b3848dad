"""The answer to a choice: the chosen policy, its win rate, the sentence to quote; stored once per question."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from enum import Enum
from pathlib import Path
from typing import Any, Final

from sacpo_exp.config.studies import ChooseConfig
from sacpo_exp.errors import DataError
from sacpo_exp.reporting.choices import CHOICE, FORMAT, KIND, PICTURE, SHARED, Choice, Tested
from sacpo_exp.reporting.tables import format_estimate
from sacpo_exp.statistics.intervals import Estimate, Resampling, bootstrap_rate
from sacpo_exp.statistics.selection import estimate_chosen, pick_best
from sacpo_exp.store import ArtifactSpec, Store, content_hash, hash_of
from sacpo_exp.studies.choosing.candidates import AXES
from sacpo_exp.studies.choosing.search import Findings

ROUNDS: Final = 10_000  # of the bootstrap; shared intervals need its far tails
#: Settings that the answer depends on.
ASKED: Final = (
    *("threshold", "constraint", "thresholds", "maximise", "confidence", "over", "measure", "acceptable_score"),
    *("max_over_refusal", "max_missing", "power", "seed"),
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
    resampling = Resampling(ROUNDS, config.confidence, config.seed)
    tested = tuple(
        Tested(
            look.evaluation.id,
            look.candidate.title,
            look.candidate.number,
            look.findings,
            look.p_value,
            is_certified,
            bootstrap_rate(look.verdicts, resampling),
        )
        for look, is_certified in zip(findings.looks, findings.certified, strict=True)
    )
    choice = Choice(
        sentence=_describe_none(tested, config, len(findings.untested)),
        question=list_question(config),
        axis=AXES[config.over],
        chosen=None,
        rate=None,
        tested=tested,
        untested=tuple(candidate.title for candidate in findings.untested),
    )
    certified = [row for row in tested if row.is_certified]
    if not certified:
        return choice
    values = [look.verdicts for look, row in zip(findings.looks, tested, strict=True) if row.is_certified]
    if not all(map(len, values)):
        raise DataError(f"no prompt was judged for {config.maximise}, so nothing says which policy is the best.")
    best = pick_best(values)
    rate = estimate_chosen(values, best, resampling)
    sentence = _describe_chosen(certified[best], rate, config, len(tested), len(certified))
    return replace(choice, sentence=sentence, chosen=certified[best].policy_id, rate=rate)


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
        [hash_of(look.evaluation.id), look.candidate.title, [*map(asdict, look.findings)], look.verdicts.tolist()]
        for look in findings.looks
    ]
    labels = findings.looks[0].evaluation.labels
    recipe = {"format": FORMAT, "question": list_question(config), "seen": content_hash(seen)}
    policies = tuple(look.evaluation.id for look in findings.looks)
    slug = f"{config.over.value}.{config.measure.value}.{config.threshold:g}.{labels['judge']}.{labels['prompts']}"
    return ArtifactSpec(KIND, slug, recipe, policies, {key: labels[key] for key in (*SHARED, "judge", "prompts")})


def count_others(store: Store, folder: Path) -> int:
    """Return how many other questions were asked of the same judge, prompts and responses."""
    made = {path.name: manifest.labels for path, manifest in store.manifests() if manifest.kind == KIND}
    own = [made[folder.name][key] for key in SHARED]
    return sum([labels[key] for key in SHARED] == own for labels in made.values()) - 1
