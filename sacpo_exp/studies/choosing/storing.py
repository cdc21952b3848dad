"""An answer in the store: whole or not at all, and beside others about the same policies."""

from pathlib import Path
from typing import Any

from sacpo_exp.config.choosing import ChooseConfig
from sacpo_exp.reporting.choices import CHOICE, FORMAT, KIND, PICTURE, SHARED
from sacpo_exp.store import ArtifactSpec, Store, content_hash
from sacpo_exp.studies.choosing.answering import answer, describe_plainly, describe_seen, list_question
from sacpo_exp.studies.choosing.search import Findings


def store_choice(store: Store, findings: Findings, config: ChooseConfig) -> Path:
    """The folder of the answer with its figure; made now if this was not asked of these verdicts before."""

    def build(folder: Path) -> dict[str, Any]:
        from sacpo_exp.reporting.choice_figure import draw_choice

        choice = answer(findings, config)
        (folder / CHOICE).write_bytes(choice.to_json())
        for kind, content in draw_choice(choice).items():
            (folder / f"{PICTURE}.{kind}").write_bytes(content)
        return describe_plainly(choice)

    return store.get_or_build(choice_artifact(findings, config), build)


def choice_artifact(findings: Findings, config: ChooseConfig) -> ArtifactSpec:
    """Question and verdicts decide the answer."""
    labels = findings.looks[0].evaluation.labels
    recipe = {"format": FORMAT, "question": list_question(config), "seen": content_hash(describe_seen(findings))}
    policies = tuple(look.evaluation.id for look in findings.looks)
    slug = f"{config.over.value}.{config.measure.value}.{config.threshold:g}.{labels['judge']}.{labels['prompts']}"
    return ArtifactSpec(KIND, slug, recipe, policies, {key: labels[key] for key in (*SHARED, "judge", "prompts")})


def count_others(store: Store, folder: Path) -> int:
    """How many other questions have been asked of verdicts by the same judge on the same prompts and answers."""
    found = {path.name: manifest.labels for path, manifest in store.manifests() if manifest.kind == KIND}
    own = [found[folder.name][key] for key in SHARED]
    return sum([labels[key] for key in SHARED] == own for labels in found.values()) - 1
