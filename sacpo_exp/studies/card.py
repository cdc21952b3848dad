"""The model card of an exported policy: what it is, what it was made from and what it scored."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from sacpo_exp.config.data import DatasetConfig, DatasetSource
from sacpo_exp.config.models import ModelConfig, ModelSource
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.data.sources import resolve_revision
from sacpo_exp.errors import MissingArtifactError
from sacpo_exp.method.policy import Aligned, Merged, Policy, write
from sacpo_exp.pipeline import Run
from sacpo_exp.plan import Stage, policy_of_spec
from sacpo_exp.reporting.collect import Group, collect_groups
from sacpo_exp.reporting.lineage import write_command
from sacpo_exp.reporting.scores import PolicyScores, score_policy
from sacpo_exp.reporting.tables import NOTHING, format_estimate, to_markdown
from sacpo_exp.reporting.tracking import SETTINGS
from sacpo_exp.store import ArtifactSpec, Manifest, hash_of

PAPER = "2404.11049"
USAGE = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # or the repository on the hub
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
messages = [{{"role": "user", "content": "How do I bake bread?"}}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
output = model.generate(**inputs, do_sample=False, max_new_tokens={max_new_tokens})
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```"""
#: The folders of a path in an override that does not begin where the command is started.
FOLDERS = re.compile(r"(?<=[=:,\[{'\"])[~./][^=,\]}'\"]*/(?=[^/,\]}'\"])")


@dataclass(frozen=True)
class Origin:
    """A model or dataset that a policy was made from.

    Attributes:
        name: for people; never a path of this machine.
        licence: its identifier on the hub; None where it is not known.
        source: where the licence is stated.
        hub: its repository on the hub, or the one of which it is a copy.
        is_licensed: False for random weights.
    """

    name: str
    licence: str | None = None
    source: str = ""
    note: str = ""
    hub: str | None = None
    is_licensed: bool = True


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
    from huggingface_hub import ModelCardData

    policy, stages = ancestry.policy, ancestry.stages
    model = find_model(config.model)
    datasets = [find_dataset(stage.dataset) for stage in stages]
    origins = [model, *dict.fromkeys(datasets)]
    is_p_sacpo = isinstance(policy, Merged) and not policy.is_naive
    tags = ["sacpo", *["merge"] * bool(policy.weights), *["p-sacpo"] * is_p_sacpo]
    licences = {origin.licence for origin in origins if origin.is_licensed}
    front = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        base_model=model.hub,
        datasets=[origin.hub for origin in origins[1:] if origin.hub] or None,
        license=licences.pop() if len(licences) == 1 else None,
        tags=[*tags, *dict.fromkeys(stage.loss for stage in policy.stages), f"arxiv:{PAPER}"],
    )
    stops = ", ".join(json.dumps(stop, ensure_ascii=False) for stop in config.model.stop)
    most = config.generation.max_new_tokens
    return (
        "\n\n".join(
            [
                f"---\n{front.to_yaml()}\n---",
                f"# {policy.name} on {config.model.name}",
                _introduce(policy, model),
                "## Use",
                USAGE.format(max_new_tokens=most),
                f"It is judged by greedy answers of at most {most} tokens, up to its end mark"
                + (f", or one of {stops}." if stops else "."),
                "## Lineage",
                _table(_list_lineage(ancestry, model), 4),
                "## Data",
                _table(_list_data(stages, datasets), 5),
                "## Hyper-parameters",
                _table(_list_settings(stages), len(stages) + 1),
                "## Scores",
                *_write_scores(run, policy),
                "## Licences",
                _table([["of", "licence", "source", "note"], *map(_describe_licence, origins)], 4),
                "Licences were looked up once and may have changed: ask the sources before you pass this model on.",
                "## Made with",
                *_write_making(ancestry),
            ]
        )
        + "\n"
    )


def find_model(model: ModelConfig) -> Origin:
    """Return the origin of the untrained model."""
    if model.source == ModelSource.scratch:
        return Origin(f"{model.name}: random weights", note="made here", is_licensed=False)
    if model.source == ModelSource.path:
        return Origin(f"{model.name}: a local folder, {Path(model.path or '').name}")
    facts = _read_facts("models", model.path)
    hub = model.path if model.source == ModelSource.hub else facts.pop("hub", None)
    return Origin(f"{model.path} {model.revision or ''}".strip(), hub=hub, **facts)


def find_dataset(dataset: DatasetConfig) -> Origin:
    """Return the origin of a dataset that a stage was trained on."""
    if dataset.source == DatasetSource.path:
        paths = [part.path for part in dataset.mix] or [dataset.path or ""]
        return Origin(f"{dataset.name}: local, {' + '.join(Path(path).name for path in paths)}")
    hub = dataset.path if dataset.source == DatasetSource.hub else None
    key = hub or dataset.source.value
    return Origin(key, hub=hub, **_read_facts("datasets", key))


def _read_facts(kind: str, name: str | None) -> dict[str, Any]:
    facts = yaml.safe_load(Path(__file__).with_name("licences.yaml").read_text("utf-8"))[kind]
    return dict(facts.get(name, {}))


def _introduce(policy: Policy, model: Origin) -> str:
    steps = [_describe(each) for each in (*policy.ancestors, policy) if isinstance(each, Aligned)]
    text = (
        f"A policy made with sacpo_exp by stepwise alignment (SACPO, arXiv {PAPER}): {', '.join([model.name, *steps])}."
    )
    if isinstance(policy, Merged):
        parts = [f"{write(weight)} · ({each.name})" for weight, each in zip(policy.mix, policy.policies, strict=True)]
        text += f" Its weights are {' + '.join(parts)}."
    return text + " A research artifact, trained and judged as described below and for nothing else."


def _describe(policy: Policy) -> str:
    if isinstance(policy, Aligned):
        return f"{policy.stage.criterion or policy.stage.loss} stage: {policy.name}"
    return policy.name


def _list_lineage(ancestry: Ancestry, model: Origin) -> list[list[str]]:
    rows = [["artifact", "what", "from", "made"]]
    for each in (*ancestry.policy.ancestors, ancestry.policy):
        what = _describe(each) if each.parents else f"model {model.name}"
        made = ancestry.made[each.id].created[:10] if each.id in ancestry.made else ""
        rows.append([each.id, what, ", ".join(parent.id for parent in each.parents), made])
    return rows


def _list_data(stages: Sequence[Stage], origins: Sequence[Origin]) -> list[list[str]]:
    rows = [["stage", "dataset", "revision", "rows by hash", "prepared as"]]
    for stage, origin in zip(stages, origins, strict=True):
        revision = resolve_revision(stage.dataset) if stage.dataset.source == DatasetSource.hub else ""
        rows.append([stage.name, origin.name, revision, str(stage.data.recipe["rows"])[:16], stage.data.id])
    return rows


def _list_settings(stages: Sequence[Stage]) -> list[list[str]]:
    """Return one row per setting, with one column per stage."""
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


def find_scores(run: Run, policy: Policy) -> list[tuple[Group, PolicyScores]]:
    """Return the scores of the policy in every group of stored evaluations, as a report computes them."""
    try:
        groups = collect_groups(run.store, None, None)
    except MissingArtifactError:
        return []
    entries = ((group, entry) for group in groups for entry in group.policies)
    return [
        (group, score_policy(entry, SETTINGS)) for group, entry in entries if hash_of(entry.id) == hash_of(policy.id)
    ]


def _write_scores(run: Run, policy: Policy) -> Iterator[str]:
    scores = find_scores(run, policy)
    if not scores:
        yield "No evaluation of this policy is stored."
        return
    criteria = {each.name: each for _, row in scores for each in row.policy.criteria}
    columns = {"refused risky": "refusal_rate_risky", "refused benign": "refusal_rate_benign", "KL (nats)": "kl_nats"}
    rows = [["judge", "prompts", "against", *criteria, *columns, "without verdict"]]
    for group, row in scores:
        labels = row.policy.labels
        names = [labels["judge_id"], f"{labels['prompts']} ({len(row.policy.records)})", group.baseline_id]
        estimates = [
            row.estimates.get(name) for name in (*(f"{name}_win_rate" for name in criteria), *columns.values())
        ]
        cells = [format_estimate(each) if each else NOTHING for each in estimates]
        missing = [f"{count} {state}" for state, count in sorted(row.states.items()) if state != "ok"]
        rows.append([*names, *cells, ", ".join(missing) or "0"])
    yield _table(rows, 3)
    kinds = [f"{name}: {' and '.join(each.prompt_kinds) or 'all'} prompts" for name, each in criteria.items()]
    yield (
        f"Share of the prompts of a criterion ({'; '.join(kinds)}) won against the baseline, ties as half, with 95 % "
        "intervals over prompts. Refusals are found by string matching. Prompts without a verdict are in no rate; if "
        "there are too many, the rate is withheld. Rates by different judges or on different prompts can't be compared."
    )


def _describe_licence(origin: Origin) -> list[str]:
    return [origin.name, origin.licence or ("not known" if origin.is_licensed else "none"), origin.source, origin.note]


def _write_making(ancestry: Ancestry) -> Iterator[str]:
    manifest = ancestry.made.get(ancestry.policy.id)
    overrides = manifest.labels.get("overrides") if manifest and ancestry.policy.parents else None
    if overrides is not None:
        yield f"```\n{write_command('train', [FOLDERS.sub('', text) for text in overrides])}\n```"
    versions = {"sacpo_exp": metadata.version("sacpo_exp")} | (manifest.versions if manifest else {})
    commit = f", commit {manifest.commit}" if manifest and manifest.commit else ""
    yield ", ".join(f"{name} {version}" for name, version in versions.items()) + commit + "."


def _table(rows: list[list[str]], left: int) -> str:
    return "\n".join(to_markdown(rows, left))
