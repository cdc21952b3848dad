"""The model card: what the policy is, what it was made from, what it scored, in Markdown that the hub reads."""

import json
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any

import yaml

from sacpo_exp.config.schema import DatasetSource, RunConfig
from sacpo_exp.data.sources import resolve_revision
from sacpo_exp.exporting.ancestry import Ancestry
from sacpo_exp.exporting.licences import Origin, find_dataset, find_model, join_licences
from sacpo_exp.plan import Stage
from sacpo_exp.reporting.groups import Group
from sacpo_exp.reporting.numbers import NOTHING, format_estimate
from sacpo_exp.reporting.scores import PolicyScores
from sacpo_exp.reporting.section import Rows
from sacpo_exp.reporting.table import to_markdown

PAPER = "2404.11049"
USAGE = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # or the repository on the hub
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
said = [{{"role": "user", "content": "How do I bake bread?"}}]
inputs = tokenizer.apply_chat_template(said, add_generation_prompt=True, return_tensors="pt", return_dict=True)
output = model.generate(**inputs, do_sample=False, max_new_tokens={max_new_tokens})
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```"""


def write_card(ancestry: Ancestry, scores: Sequence[tuple[Group, PolicyScores]], config: RunConfig) -> str:
    """The text of README.md."""
    model = find_model(config.model)
    datasets = {stage.data.id: find_dataset(stage.dataset) for stage in ancestry.stages}
    origins = [model, *dict.fromkeys(datasets.values())]
    parts = [
        f"---\n{_write_front(ancestry, origins)}---",
        f"# {ancestry.policy.labels['policy']} on {config.model.name}",
        _introduce(ancestry, model),
        "## Use",
        USAGE.format(max_new_tokens=config.generation.max_new_tokens),
        _describe_answers(config),
        "## Lineage",
        _table(_list_lineage(ancestry, model), 4),
        "## Data",
        _table(_list_data(ancestry), 5),
        "## Hyper-parameters",
        _table(_list_settings(ancestry.stages), len(ancestry.stages) + 1),
        "## Scores",
        *_write_scores(scores),
        "## Licences",
        _table([["of", "licence", "source", "note"], *map(_describe_licence, origins)], 4),
        "What is given here was looked up once and may have changed: ask the sources before you pass this model on.",
        "## Made with",
        *_write_making(ancestry),
    ]
    return "\n\n".join(parts) + "\n"


def _write_front(ancestry: Ancestry, origins: Sequence[Origin]) -> str:
    model, *datasets = origins
    losses = [stage.config.loss.name.value for stage in ancestry.stages]
    front: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    if model.hub:
        front["base_model"] = model.hub
    if hubs := [origin.hub for origin in datasets if origin.hub]:
        front["datasets"] = hubs
    if licence := join_licences(origins):
        front["license"] = licence
    front["tags"] = [
        "sacpo",
        *(["p-sacpo", "merge"] if ancestry.merge else []),
        *dict.fromkeys(losses),
        f"arxiv:{PAPER}",
    ]
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True)


def _introduce(ancestry: Ancestry, model: Origin) -> str:
    steps = [f"{stage.name} stage {stage.artifact.labels['policy']}" for stage in ancestry.stages]
    text = (
        f"A policy made with sacpo_exp by stepwise alignment (SACPO, arXiv {PAPER}), from {model.name}"
        f"{''.join(f', {step}' for step in steps)}."
    )
    if merge := ancestry.merge:
        text += (
            f" Its weights are q · ({merge.second.labels['policy']}) + (1 − q) · ({merge.first.labels['policy']}) with "
            f"q = {merge.ratio:g}."
        )
    return text + " A research artifact: it was trained and judged as said below, and for nothing else."


def _describe_answers(config: RunConfig) -> str:
    """How it is asked when it is judged."""
    stops = ", ".join(json.dumps(stop, ensure_ascii=False) for stop in config.model.stop)
    ends = f", or one of {stops}" if stops else ""
    most = config.generation.max_new_tokens
    return f"It is judged by greedy answers of at most {most} tokens, up to its end mark{ends}."


def _list_lineage(ancestry: Ancestry, model: Origin) -> Rows:
    rows = [["artifact", "what", "from", "made"]]
    rows.append([ancestry.model.id, f"model {model.name}", "", _date(ancestry, ancestry.model.id)])
    for stage in ancestry.stages:
        what = f"{stage.name} stage: {stage.artifact.labels['policy']}"
        rows.append([stage.artifact.id, what, stage.parent.id, _date(ancestry, stage.artifact.id)])
    if merge := ancestry.merge:
        parents = f"{merge.first.id}, {merge.second.id}"
        rows.append([merge.artifact.id, f"merge, q = {merge.ratio:g}", parents, _date(ancestry, merge.artifact.id)])
    return rows


def _date(ancestry: Ancestry, artifact_id: str) -> str:
    return ancestry.made[artifact_id].created[:10] if artifact_id in ancestry.made else ""


def _list_data(ancestry: Ancestry) -> Rows:
    rows = [["stage", "dataset", "revision", "rows by hash", "prepared as"]]
    for stage in ancestry.stages:
        is_hub = stage.dataset.source == DatasetSource.hub
        revision = resolve_revision(stage.dataset) if is_hub else ""
        rows.append(
            [stage.name, find_dataset(stage.dataset).name, revision, str(stage.data.recipe["rows"])[:16], stage.data.id]
        )
    return rows


def _list_settings(stages: Sequence[Stage]) -> Rows:
    """One row per setting, one column per stage."""
    columns = [dict(_flatten(stage.artifact.recipe)) for stage in stages]
    names = dict.fromkeys(name for column in sorted(columns, key=len, reverse=True) for name in column)
    heading = ["setting", *(str(stage.artifact.labels["policy"]) for stage in stages)]
    return [heading, *([name, *(column.get(name, "") for column in columns)] for name in names)]


def _flatten(recipe: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in recipe.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{name}." if name in ("loss", "adapter") else "")
        else:
            yield prefix + name, NOTHING if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _write_scores(scores: Sequence[tuple[Group, PolicyScores]]) -> Iterator[str]:
    if not scores:
        yield "No evaluation of this policy is stored."
        return
    names = ["judge", "prompts", "against", "helpfulness", "harmlessness", "refused risky", "refused benign"]
    rows = [[*names, "KL (nats)", "without verdict"]]
    for group, row in scores:
        labels = row.policy.labels
        estimates = (row.helpfulness, row.harmlessness, row.refusals, row.over_refusals, row.kl)
        missing = [f"{count} {state}" for state, count in sorted(row.states.items()) if state != "ok"]
        names = [labels["judge_id"], f"{labels['prompts']} ({len(row.policy.records)})", group.baseline_id]
        rows.append([*names, *map(format_estimate, estimates), ", ".join(missing) or "0"])
    yield _table(rows, 3)
    yield (
        "Helpfulness and harmlessness: share of benign and of risky prompts won against the baseline, ties as half, "
        "with 95 % intervals over prompts. Refusals are told by string matching. Prompts without a verdict are in "
        "neither rate; where too many are, the rate is withheld. Rates by different judges or on different prompts "
        "can't be compared."
    )


def _describe_licence(origin: Origin) -> list[str]:
    known = origin.licence or ("not known" if origin.is_licensed else "none")
    return [origin.name, known, origin.source, origin.note]


def _write_making(ancestry: Ancestry) -> Iterator[str]:
    if command := ancestry.command:
        yield f"```\n{command.write('train')}\n```"
        if not command.is_exact:
            yield "This command is derived from what is stored; something that is not stored may have been set besides."
    manifest = ancestry.made[ancestry.policy.id]
    versions = {"sacpo_exp": metadata.version("sacpo_exp")} | manifest.versions
    commit = f", commit {manifest.commit}" if manifest.commit else ""
    yield ", ".join(f"{name} {version}" for name, version in versions.items()) + commit + "."


def _table(rows: Rows, left: int) -> str:
    return "\n".join(to_markdown(rows, left))
