"""The model card: what the policy is, what it was made from, what it scored, in Markdown that the hub reads."""

import json
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any

import yaml

from sacpo_exp.config.data import DatasetSource
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.data.sources import resolve_revision
from sacpo_exp.method.policy import Aligned, Merged, Policy, write
from sacpo_exp.plan import Stage, policy_of_spec
from sacpo_exp.reporting.groups import Group
from sacpo_exp.reporting.lineage import write_command
from sacpo_exp.reporting.numbers import NOTHING, format_estimate
from sacpo_exp.reporting.scores import PolicyScores
from sacpo_exp.reporting.section import Rows
from sacpo_exp.reporting.table import to_markdown
from sacpo_exp.studies.exporting.ancestry import Ancestry
from sacpo_exp.studies.exporting.licences import Origin, find_dataset, find_model, join_licences

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
        f"# {ancestry.policy.name} on {config.model.name}",
        _introduce(ancestry.policy, model),
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
    policy = ancestry.policy
    front: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    if model.hub:
        front["base_model"] = model.hub
    if hubs := [origin.hub for origin in datasets if origin.hub]:
        front["datasets"] = hubs
    if licence := join_licences(origins):
        front["license"] = licence
    front["tags"] = [
        "sacpo",
        *(["merge"] if policy.weights else []),
        *(["p-sacpo"] if isinstance(policy, Merged) and not policy.is_naive else []),
        *dict.fromkeys(stage.loss for stage in policy.stages),
        f"arxiv:{PAPER}",
    ]
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True)


def _introduce(policy: Policy, model: Origin) -> str:
    steps = [_describe(each) for each in (*policy.ancestors, policy) if isinstance(each, Aligned)]
    text = (
        f"A policy made with sacpo_exp by stepwise alignment (SACPO, arXiv {PAPER}): {', '.join([model.name, *steps])}."
    )
    if isinstance(policy, Merged):
        parts = [f"{write(weight)} · ({each.name})" for weight, each in zip(policy.mix, policy.policies, strict=True)]
        text += f" Its weights are {' + '.join(parts)}."
    return text + " A research artifact: it was trained and judged as said below, and for nothing else."


def _describe_answers(config: RunConfig) -> str:
    """How it is asked when it is judged."""
    stops = ", ".join(json.dumps(stop, ensure_ascii=False) for stop in config.model.stop)
    ends = f", or one of {stops}" if stops else ""
    most = config.generation.max_new_tokens
    return f"It is judged by greedy answers of at most {most} tokens, up to its end mark{ends}."


def _describe(policy: Policy) -> str:
    if isinstance(policy, Aligned):
        return f"{policy.stage.criterion or policy.stage.loss} stage: {policy.name}"
    return policy.name


def _list_lineage(ancestry: Ancestry, model: Origin) -> Rows:
    rows = [["artifact", "what", "from", "made"]]
    for each in (*ancestry.policy.ancestors, ancestry.policy):
        what = _describe(each) if each.parents else f"model {model.name}"
        made = ancestry.made[each.id].created[:10] if each.id in ancestry.made else ""
        rows.append([each.id, what, ", ".join(parent.id for parent in each.parents), made])
    return rows


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
    heading = ["setting", *(policy_of_spec(stage.artifact).name for stage in stages)]
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
    criteria = {each.name: each for _, row in scores for each in row.policy.criteria}
    names = ["judge", "prompts", "against", *criteria, "refused risky", "refused benign"]
    rows = [[*names, "KL (nats)", "without verdict"]]
    for group, row in scores:
        labels = row.policy.labels
        rates = [format_estimate(row.rate(name)) if name in row.by_criterion else NOTHING for name in criteria]
        others = map(format_estimate, (row.refusals, row.over_refusals, row.kl))
        missing = [f"{count} {state}" for state, count in sorted(row.states.items()) if state != "ok"]
        names = [labels["judge_id"], f"{labels['prompts']} ({len(row.policy.records)})", group.baseline_id]
        rows.append([*names, *rates, *others, ", ".join(missing) or "0"])
    yield _table(rows, 3)
    kinds = [f"{name}: {' and '.join(each.prompt_kinds) or 'all'} prompts" for name, each in criteria.items()]
    yield (
        f"Share of the prompts of a criterion ({'; '.join(kinds)}) won against the baseline, ties as half, with 95 % "
        "intervals over prompts. Refusals are told by string matching. Prompts without a verdict are in no rate; where "
        "too many are, the rate is withheld. Rates by different judges or on different prompts can't be compared."
    )


def _describe_licence(origin: Origin) -> list[str]:
    known = origin.licence or ("not known" if origin.is_licensed else "none")
    return [origin.name, known, origin.source, origin.note]


def _write_making(ancestry: Ancestry) -> Iterator[str]:
    if ancestry.overrides is not None:
        yield f"```\n{write_command('train', ancestry.overrides)}\n```"
    manifest = ancestry.made.get(ancestry.policy.id)
    versions = {"sacpo_exp": metadata.version("sacpo_exp")} | (manifest.versions if manifest else {})
    commit = f", commit {manifest.commit}" if manifest and manifest.commit else ""
    yield ", ".join(f"{name} {version}" for name, version in versions.items()) + commit + "."


def _table(rows: Rows, left: int) -> str:
    return "\n".join(to_markdown(rows, left))
