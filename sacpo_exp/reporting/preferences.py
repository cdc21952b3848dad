"""Preference accuracy of policies on held-out pairs: the part of a report that needs no judge."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sacpo_exp.evaluation.preferences import PAIRS
from sacpo_exp.evaluation.records import read_records
from sacpo_exp.method.policy import Aligned, read_policy
from sacpo_exp.plan import LINEAGE
from sacpo_exp.reporting.collect import Entry, Evaluation, arrange_policies
from sacpo_exp.reporting.tables import Row, Section, columns_of, format_weights, make_section
from sacpo_exp.statistics.intervals import Resampling
from sacpo_exp.statistics.preferences import calibration_error, estimate_accuracy, estimate_mean
from sacpo_exp.store import Manifest, Store

#: Prompt, chosen and rejected completion, by their hashes.
Key = tuple[str, str, str]
Pairs = dict[Key, dict[str, Any]]


@dataclass(frozen=True)
class PreferenceTable:
    """Policies of one baseline, with a row for each criterion.

    Attributes:
        rows: as in `preferences.csv`.
        policies: in the order of the rows.
    """

    heading: str
    provenance: str
    rows: tuple[Row, ...]
    policies: tuple[Evaluation, ...]
    percent: str


def collect_preferences(
    store: Store, model: str | None, dataset: str | None, resampling: Resampling, wanted: Collection[str] | None = None
) -> list[PreferenceTable]:
    """Return the preference accuracies that are stored for this model, data set and policies (None: for any)."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for folder, manifest in store.manifests():
        labels = manifest.labels
        if manifest.kind == "preference" and model in (None, labels["model"]) and dataset in (None, labels["dataset"]):
            policy = read_policy(labels[LINEAGE])
            baseline = [each for each in (*policy.ancestors, policy) if not each.aligned][-1]
            groups[baseline.id].append((folder, manifest))
    tables = [_make_table(store, baseline, entries, resampling, wanted) for baseline, entries in groups.items()]
    return [table for table in tables if table.rows]


def _make_table(
    store: Store, baseline: str, entries: Sequence[Entry], resampling: Resampling, wanted: Collection[str] | None
) -> PreferenceTable:
    pairs: dict[tuple[str, str], Pairs] = {}
    newest: dict[str, Manifest] = {}
    sources: dict[str, Mapping[str, str]] = {}
    for folder, manifest in sorted(entries, key=lambda entry: entry[1].created):
        store.check(folder)
        policy_id, data_id = str(manifest.labels["policy_id"]), manifest.parents[1]
        records = read_records(folder / PAIRS)
        pairs[policy_id, data_id] = {(record["prompt"], *record["texts"]): record for record in records}
        newest[policy_id], sources[data_id] = manifest, manifest.labels
    ids = {"baseline_id": baseline, "opponent_id": baseline}
    policies = arrange_policies(Evaluation(each.labels | ids, [], {}, each.created) for each in newest.values())
    rows = tuple(
        row
        for policy in policies
        if not policy.is_baseline and (wanted is None or policy.id in wanted)
        for data_id in sources
        for row in _score(policy, data_id, sources, pairs, resampling)
    )
    names = [{str(manifest.labels[key]) for _, manifest in entries} for key in ("model", "dataset")]
    heading = " · ".join(["Preference accuracy", *(" + ".join(sorted(each)) for each in names)])
    return PreferenceTable(heading, f"baseline {baseline}", rows, policies, f"{100 * resampling.confidence:g} %")


def _score(
    evaluation: Evaluation,
    data_id: str,
    sources: Mapping[str, Mapping[str, str]],
    pairs: Mapping[tuple[str, str], Pairs],
    resampling: Resampling,
) -> Iterator[Row]:
    """Yield the row of a policy on the pairs of one criterion and data set, if the baseline was scored on them too.

    `sources` are the criterion and the data set of all pairs, by the id of their data.
    """
    baseline, criterion = str(evaluation.labels["baseline_id"]), sources[data_id]["criterion"]
    own, other = pairs.get((evaluation.id, data_id)), pairs.get((baseline, data_id))
    if own is None or other is None:
        return
    shared = [key for key, record in own.items() if key in other and not (record["seen"] or other[key]["seen"])]
    if not shared:
        return
    turned = {
        (prompt, rejected, chosen)
        for (policy_id, other_id), each in pairs.items()
        if policy_id == baseline and sources[other_id]["criterion"] != criterion
        for prompt, chosen, rejected in each
    }
    margins, prompts = [_margin(own[key], other[key]) for key in shared], [key[0] for key in shared]
    conflicts = [i for i, key in enumerate(shared) if key in turned]
    per_token = [_margin(own[key], other[key], by_token=True) for key in shared]
    policy = evaluation.policy
    row: Row = {"policy": evaluation.name, "beta": evaluation.beta, "merge_ratio": policy.merge_ratio}
    row |= {"weights": format_weights(policy), "criterion": criterion, "pairs": len(shared)}
    row |= {"dataset": sources[data_id]["dataset"], "seen": sum(record["seen"] for record in own.values())}
    some = [margins[i] for i in conflicts], [prompts[i] for i in conflicts]
    row |= {"accuracy": estimate_accuracy(margins, prompts, resampling)}
    row |= {"accuracy_conflicts": estimate_accuracy(*some, resampling), "conflicts": len(conflicts)}
    row |= {"accuracy_per_token": estimate_accuracy(per_token, prompts, resampling)}
    row |= {"margin_nats": estimate_mean(margins, prompts, resampling), "calibration_error": None}
    if isinstance(policy, Aligned) and policy.stage.criterion == criterion:
        reference = pairs.get((policy.parent.id, data_id), {})
        if all(key in reference for key in shared):
            steps = [_margin(own[key], reference[key]) for key in shared]
            row["calibration_error"] = calibration_error(steps, policy.stage.beta or 0.0)
    yield row | {"policy_id": evaluation.id}


def _margin(own: Mapping[str, Any], other: Mapping[str, Any], by_token: bool = False) -> float:
    """Return the log-ratio of the chosen completion minus that of the rejected one, in nats, or nats per token."""
    counts = own["tokens"] if by_token else (1, 1)
    gains = [(own[name] - other[name]) / max(1, n) for name, n in zip(("chosen", "rejected"), counts, strict=True)]
    return float(gains[0] - gains[1])


def preference_section(table: PreferenceTable) -> Section:
    """Return the table of a report."""
    columns = [("policy", "policy", ""), ("β", "beta", "g"), ("q", "weights", ""), ("criterion", "criterion", "")]
    columns += [("accuracy", "accuracy", ""), ("of conflicts", "accuracy_conflicts", "")]
    columns += [("per token", "accuracy_per_token", ".2f"), ("margin", "margin_nats", ".2f")]
    columns += [("ECE", "calibration_error", ".3f"), *columns_of("pairs")]
    note = (
        f"Share of held-out pairs of which log π/π_baseline prefers the chosen completion [{table.percent} bootstrap "
        "interval over prompts]; conflicts: pairs that another criterion ranks the other way round; margin: in nats. "
        "ECE: expected calibration error of σ(β·margin) of a stage against its own reference."
    )
    if any(row["seen"] for row in table.rows):
        note += "\nPairs with prompts that a policy was trained on are left out."
    return make_section("Held-out pairs", table.rows, columns, 1, note)
