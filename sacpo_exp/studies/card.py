"""The model card of an exported policy: what it is, what it was made from and what it scored."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from sacpo_exp.config.data import DatasetSource
from sacpo_exp.config.models import ModelConfig, ModelSource
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.errors import MissingArtifactError
from sacpo_exp.method.policy import Merged, Policy, write
from sacpo_exp.pipeline import Run
from sacpo_exp.plan import Stage, policy_of_spec
from sacpo_exp.reporting.collect import collect_groups
from sacpo_exp.reporting.lineage import list_steps, write_command
from sacpo_exp.reporting.scores import score_policy
from sacpo_exp.reporting.tables import format_estimate, to_markdown
from sacpo_exp.reporting.tracking import SETTINGS
from sacpo_exp.store import ArtifactSpec, Manifest, hash_of

PAPER = "2404.11049"
TEMPLATE = """---
{{ card_data }}
---

# {{ title }}

A policy trained with sacpo_exp by stepwise alignment (SACPO, arXiv 2404.11049), starting from {{ model }}.
{{- merge }} It is a research artifact. The licences of the model and of the data below apply to it.

## Use

```python
from transformers import pipeline

generator = pipeline("text-generation", model=".")  # or the repository on the hub
messages = [{"role": "user", "content": "How do I bake bread?"}]
print(generator(messages, do_sample=False, max_new_tokens={{ max_new_tokens }}, return_full_text=False))
```

## Lineage

{{ lineage }}

All settings are in recipe.json.

## Scores

{{ scores }}

## Made with

{{ command }}
{{ versions }}.
"""
#: The folders of a path in an override that does not begin where the command is started.
FOLDERS = re.compile(r"(?<=[=:,\[{'\"])[~./][^=,\]}'\"]*/(?=[^/,\]}'\"])")


@dataclass(frozen=True)
class Ancestry:
    """A policy of a plan with the stages that made it, and the stored manifests of it and its ancestors by id."""

    policy: Policy
    stages: tuple[Stage, ...]
    made: dict[str, Manifest]


def trace_policy(run: Run, policy: ArtifactSpec) -> Ancestry:
    """Return the planned ancestry of a stored policy; what lies only in a mirror has no manifest."""
    described = policy_of_spec(policy)
    ids = {each.id for each in (*described.ancestors, described)}
    specs = [spec for spec in (run.plan.model, *run.plan.made(), policy) if spec.id in ids and run.store.has(spec)]
    made = {spec.id: run.store.manifest(spec) for spec in specs}
    return Ancestry(described, tuple(stage for stage in run.plan.stages if stage.artifact.id in ids), made)


def write_card(run: Run, ancestry: Ancestry, config: RunConfig) -> str:
    """Return the text of README.md, with the scores of every stored evaluation of the policy."""
    from huggingface_hub import ModelCard, ModelCardData

    policy, stages = ancestry.policy, ancestry.stages
    is_p_sacpo = isinstance(policy, Merged) and not policy.is_naive
    tags = ["sacpo", *["merge"] * bool(policy.weights), *["p-sacpo"] * is_p_sacpo]
    hub_data = dict.fromkeys(stage.dataset.path for stage in stages if stage.dataset.source == DatasetSource.hub)
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        base_model=config.model.path if config.model.source == ModelSource.hub else None,
        datasets=[path for path in hub_data if path] or None,
        tags=[*tags, *dict.fromkeys(stage.loss for stage in policy.stages), f"arxiv:{PAPER}"],
    )
    card = ModelCard.from_template(
        data,
        template_str=TEMPLATE,
        title=f"{policy.name} on {config.model.name}",
        model=_name_model(config.model),
        merge=_describe_merge(policy),
        max_new_tokens=config.generation.max_new_tokens,
        lineage=_list_lineage(ancestry),
        scores=_list_scores(run, policy),
        **dict(_list_making(ancestry)),
    )
    return str(card)


def _name_model(model: ModelConfig) -> str:
    """Return the name of the untrained model, without a path of this machine."""
    if model.source == ModelSource.scratch:
        return f"{model.name} (random weights)"
    if model.source == ModelSource.path:
        return f"{model.name} (a local folder, {Path(model.path or '').name})"
    return f"{model.path} {model.revision or ''}".strip()


def _describe_merge(policy: Policy) -> str:
    if not isinstance(policy, Merged):
        return ""
    parts = [f"{write(weight)} · ({each.name})" for weight, each in zip(policy.mix, policy.policies, strict=True)]
    return f" Its weights are {' + '.join(parts)}."


def _list_lineage(ancestry: Ancestry) -> str:
    steps = list_steps(ancestry.policy, {name: (Path(), manifest) for name, manifest in ancestry.made.items()})
    rows = [["artifact", "what", "settings", "from", "made"]]
    for each, (name, settings) in zip((*ancestry.policy.ancestors, ancestry.policy), steps, strict=True):
        made = ancestry.made[each.id].created[:10] if each.id in ancestry.made else ""
        rows.append([each.id, name, settings, ", ".join(parent.id for parent in each.parents), made])
    return "\n".join(to_markdown(rows, len(rows[0])))


def _list_scores(run: Run, policy: Policy) -> str:
    """Return the estimates of every stored evaluation of the policy, as a report computes them."""
    try:
        groups = collect_groups(run.store, None, None)
    except MissingArtifactError:
        groups = []
    rows = [["judge", "prompts", "against", "estimate", "value"]]
    for group in groups:
        for entry in group.policies:
            if hash_of(entry.id) == hash_of(policy.id):
                place = [entry.labels["judge_id"], entry.labels["prompts"], group.baseline_id]
                scores = score_policy(entry, SETTINGS)
                rows += [[*place, name, format_estimate(each)] for name, each in scores.estimates.items() if each.n]
                rows += [[*place, f"judgments {state}", str(count)] for state, count in sorted(scores.states.items())]
    if len(rows) == 1:
        return "No evaluation of this policy is stored."
    note = (
        "Win rates are shares of prompts, ties as half, with 95 % intervals over prompts. Prompts without a verdict "
        "are in no rate. Rates by different judges or on different prompts can't be compared."
    )
    return "\n".join([*to_markdown(rows, 4), "", note])


def _list_making(ancestry: Ancestry) -> Iterator[tuple[str, str]]:
    manifest = ancestry.made.get(ancestry.policy.id)
    overrides = manifest.labels.get("overrides") if manifest and ancestry.policy.parents else None
    command = write_command("train", [FOLDERS.sub("", text) for text in overrides or ()])
    yield "command", "" if overrides is None else f"```\n{command}\n```\n"
    versions = {"sacpo_exp": metadata.version("sacpo_exp")} | (manifest.versions if manifest else {})
    commit = f", commit {manifest.commit}" if manifest and manifest.commit else ""
    yield "versions", ", ".join(f"{name} {version}" for name, version in versions.items()) + commit
