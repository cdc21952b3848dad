"""From the store to groups of evaluated policies that may be compared with one another."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sacpo_exp.errors import MissingArtifactError
from sacpo_exp.reporting.choices import SHARED, collect_choices
from sacpo_exp.reporting.groups import Evaluation, Group, make_group
from sacpo_exp.statistics.win_rate import Record
from sacpo_exp.store import Manifest, Store, hash_of

Entry = tuple[Path, Manifest]


def collect_groups(store: Store, model: str | None, dataset: str | None) -> list[Group]:
    """Everything evaluated with this model and dataset (None: with any), newest group last.

    Raises:
        MissingArtifactError: nothing has been evaluated, or nothing of what was asked for.
        StoreError: a file that is needed is damaged.
    """
    by_kind: dict[str, list[Entry]] = defaultdict(list)
    for folder, manifest in store.manifests():
        by_kind[manifest.kind].append((folder, manifest))
    if not by_kind["judgments"]:
        raise MissingArtifactError(f"nothing has been evaluated in {store.root} yet. Try: {_eval_command(store)}")
    parted: dict[tuple[str, ...], list[Evaluation]] = defaultdict(list)
    for entry in _select(by_kind["judgments"], model, dataset):
        parted[_comparability(entry[1])].append(read_evaluation(store, entry, by_kind["divergence"]))
    metrics = {manifest.id: manifest.metrics for _, manifest in by_kind["scorer"]}
    choices = collect_choices(store)
    groups = [
        replace(
            make_group(matches, metrics.get(key[0], {}), matches[0].labels["answers"]),
            choices=tuple(choices.get(key[: len(SHARED)], ())),
        )
        for key, matches in parted.items()
    ]
    groups = [group for group in groups if group.policies]
    if not groups:
        raise MissingArtifactError(f"no match in {store.root} was against a baseline. Try: {_eval_command(store)}")
    return sorted(groups, key=lambda group: (max(p.created for p in group.policies), group.heading, group.provenance))


def _eval_command(store: Store) -> str:
    outputs = store.root.parent
    return "sacpo eval" + ("" if outputs == Path("outputs") else f" paths.outputs={outputs}")


def _comparability(manifest: Manifest) -> tuple[str, ...]:
    """What policies have in common that are compared: the labels `SHARED`, and the names of the criteria."""
    names = sorted(criterion["name"] for criterion in manifest.labels["criteria"])
    return (*(manifest.labels[key] for key in SHARED), *names)


def _select(entries: list[Entry], model: str | None, dataset: str | None) -> list[Entry]:
    """Those of this model and dataset, and the baselines that they are compared with, whose label may be another."""

    def fits(labels: Mapping[str, Any]) -> bool:
        return model in (None, labels["model"]) and dataset in (None, labels.get("dataset"))

    wanted = {_comparability(manifest) for _, manifest in entries if fits(manifest.labels)}
    if not wanted:
        there = sorted({f"model={m.labels['model']} dataset={m.labels.get('dataset')}" for _, m in entries})
        asked = " ".join(f"{key}={value}" for key, value in (("model", model), ("dataset", dataset)) if value)
        raise MissingArtifactError(f"nothing has been evaluated with {asked}. There is: {'; '.join(there)}.")
    return [
        (folder, manifest)
        for folder, manifest in entries
        if fits(manifest.labels)
        or (manifest.labels["policy_id"] == manifest.labels["baseline_id"] and _comparability(manifest) in wanted)
    ]


def read_evaluation(store: Store, entry: Entry, divergences: list[Entry]) -> Evaluation:
    """One match, with the newest of the `divergences` that is about its policy."""
    folder, manifest = entry

    def find_pair(labels: Mapping[str, Any]) -> list[str]:
        return [hash_of(labels[key]) for key in ("policy_id", "baseline_id")]

    fitting = [other for other in divergences if find_pair(other[1].labels) == find_pair(manifest.labels)]
    by_prompt: dict[str, list[float]] = defaultdict(list)
    if fitting:
        newest = max(fitting, key=lambda other: (other[1].created, other[1].id))
        for record in _read_records(store, newest[0], "divergence.jsonl"):
            by_prompt[record["prompt_id"]].append(float(record["kl"]))
    kl = {prompt_id: sum(samples) / len(samples) for prompt_id, samples in sorted(by_prompt.items())}
    records = list(_read_records(store, folder, "verdicts.jsonl"))
    return Evaluation(manifest.labels, records, kl, manifest.created, manifest.metrics)


def _read_records(store: Store, folder: Path, name: str) -> Iterator[Record]:
    store.check(folder)
    with (folder / name).open(encoding="utf-8") as file:
        yield from map(json.loads, file)
