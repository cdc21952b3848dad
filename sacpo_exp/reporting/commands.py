"""The command that makes a policy again, derived from the recipes of all that it descends from, and checked."""

import re
import shlex
from dataclasses import dataclass
from typing import Any, Final

from sacpo_exp.config.composing import compose_groups, read_value, set_values
from sacpo_exp.config.schema import Criterion
from sacpo_exp.errors import ConfigError
from sacpo_exp.plan import Fingerprints, make_plan
from sacpo_exp.reporting.lineage import Lineage
from sacpo_exp.store import Manifest

#: What a word has to be made of to need no quotes in Hydra's grammar.
PLAIN: Final = re.compile(r"[A-Za-z_/][\w./@:-]*")
#: What would not be read as text without quotes.
WORDS: Final = ("null", "true", "false", "nan", "inf")
ORDERS: Final = {Criterion.helpfulness.value: "helpful", Criterion.safety.value: "safety"}


@dataclass(frozen=True)
class Command:
    """Overrides that lead `train` and `eval` to a policy.

    Attributes:
        is_exact: whether they compute the policy's id from data whose settings are known; else something that is not
            stored may have been set besides.
    """

    overrides: tuple[str, ...]
    is_exact: bool

    def write(self, entry: str, *further: str) -> str:
        """The command line, quoted for a shell."""
        return " ".join(["python -m sacpo_exp." + entry, *map(shlex.quote, (*self.overrides, *further))])


@dataclass(frozen=True)
class Descent:
    """One run that leads to a policy: its stages in order, a merge if there was one, and the data that all share."""

    stages: tuple[Manifest, ...]
    merge: Manifest | None
    is_naive: bool
    data: tuple[Manifest, ...]

    @property
    def has_base(self) -> bool:
        return bool(self.stages[0].recipe["loss"]["name"] == "sft")

    @property
    def aligned(self) -> tuple[Manifest, ...]:
        """Stages for a criterion."""
        return self.stages[1:] if self.has_base else self.stages


def derive_command(lineage: Lineage, policy_id: str) -> Command | None:
    """How to make a policy; None where too little of it is stored, as of one that was made elsewhere."""
    try:
        descent = _trace(lineage, policy_id)
        groups, main = _choose_groups(descent)
        composed = compose_groups(tuple(groups))
        wanted = _list_values(descent, main)
        values = {key: value for key, value in wanted.items() if read_value(composed, key) != value}
        plan = make_plan(set_values(composed, values), _fingerprints(descent, main))
    except (KeyError, IndexError, ConfigError):  # of another version, or of a group that is no longer there
        return None
    made = {spec.id for spec in plan.policies.values()} | {stage.artifact.id for stage in plan.stages}
    is_known = all("settings" in data.labels for data in descent.data)
    return Command(
        (*groups, *(f"{key}={format_value(value)}" for key, value in values.items())), is_known and policy_id in made
    )


def _trace(lineage: Lineage, policy_id: str) -> Descent:
    manifest = lineage.manifests[policy_id]
    merge = manifest if manifest.kind == "merge" else None
    ends = manifest.parents if merge else [policy_id]
    chains = [[name for name in lineage.list_ancestors(end) if _kind(lineage, name) == "stage"] for end in ends]
    is_naive = merge is not None and ends[0] not in chains[1]
    ids = list(dict.fromkeys(stage for chain in chains for stage in chain))
    stages = tuple(lineage.manifests[name] for name in ids)
    data = tuple(found for name in ids if (found := lineage.find_data(name)))
    return Descent(stages, merge, is_naive, data)


def _kind(lineage: Lineage, artifact_id: str) -> str | None:
    return lineage.manifests[artifact_id].kind if artifact_id in lineage.manifests else None


def _choose_groups(descent: Descent) -> tuple[list[str], Manifest]:
    """Overrides that choose groups, and the dataset that is not of one stage alone."""
    labels = descent.stages[-1].labels
    main = next((data for data in descent.data if data.labels["dataset"] == labels["dataset"]), descent.data[0])
    groups = [f"model={labels['model']}", f"dataset={labels['dataset']}"]
    groups += [] if descent.has_base else ["base=none"]
    criteria = [stage.recipe["criterion"] for stage in descent.aligned] or [Criterion.helpfulness.value]
    groups.append(f"order={ORDERS[criteria[0]]}_{'only' if len(criteria) == 1 else 'first'}")
    losses = [stage.recipe["loss"]["name"] for stage in descent.aligned] or ["dpo"]
    groups.append(f"objective={losses[0] if len(set(losses)) == 1 else '_then_'.join(losses)}")
    if adapter := descent.stages[-1].recipe.get("adapter"):
        groups.append(f"adapter={'qlora' if adapter['quantize'] else 'lora'}")
    for name, data in zip(_names(descent), descent.data, strict=True):
        if data.id != main.id:
            groups.append(f"dataset@stages.{name}.dataset={data.labels['dataset']}")
    defaults = ("dataset=demo", "order=helpful_first", "objective=dpo")
    return [group for group in groups if group not in defaults], main


def _names(descent: Descent) -> list[str]:
    """What the stages are called; both of a naive merge are a first one, the second of them only by its criterion."""
    return (["base"] if descent.has_base else []) + ["first", "second"][: len(descent.aligned)]


def _given(descent: Descent, main: Manifest) -> dict[str, Any]:
    """Settings of data and model; none in stores of an older version."""
    values = _prefix("model", main.labels.get("settings", {}).get("model", {}))
    values |= _prefix("dataset", main.labels.get("settings", {}).get("dataset", {}))
    for name, data in zip(_names(descent), descent.data, strict=True):
        if data.id != main.id:
            values |= _prefix(f"stages.{name}.dataset", data.labels.get("settings", {}).get("dataset", {}))
    return values


def _list_values(descent: Descent, main: Manifest) -> dict[str, Any]:
    """Every setting that is known from what is stored."""
    wanted = _given(descent, main) | _prefix("optimization", descent.stages[-1].recipe["optimization"])
    last = descent.stages[-1].recipe
    wanted |= _prefix("adapter", last.get("adapter", {})) | {"seed": last["seed"]}
    for name, stage in zip(_names(descent), descent.stages, strict=True):
        if descent.is_naive and name == "second":
            wanted["beta"] = stage.recipe["beta"]  # all else is as the first stage has it
            continue
        keys = ("global_batch_size", "learning_rate", "num_train_epochs")
        wanted |= {f"stages.{name}.{key}": stage.recipe[key] for key in keys}
        wanted |= _prefix(f"stages.{name}.loss", {k: v for k, v in stage.recipe["loss"].items() if k != "name"})
        if "beta" in stage.recipe:
            is_last = stage is descent.stages[-1]
            wanted["beta" if is_last else f"stages.{name}.beta"] = stage.recipe["beta"]
    wanted |= _hardware(descent)
    if descent.merge:
        wanted |= {"merge": "naive"} if descent.is_naive else {}
        wanted["merge_ratio"] = descent.merge.recipe["ratio"]
    return wanted


def _hardware(descent: Descent) -> dict[str, Any]:
    """What of the machine decides the content: the batch of KTO or of dropout, and a float32 copy of 16-bit weights."""
    values: dict[str, Any] = {}
    if sharing := [stage.recipe for stage in descent.stages if "micro_batch_size" in stage.recipe]:
        # Each stage has what the hardware takes, or all of a smaller global batch.
        largest = max(sharing, key=lambda recipe: int(recipe["per_device_batch_size"]))
        rows = largest["per_device_batch_size"]
        values["hardware.per_device_train_batch_size"] = rows
        values["hardware.processes"] = largest["micro_batch_size"] // rows
    last = descent.stages[-1].recipe
    if last["optimization"]["dtype"] != "float32" and "float32_copy" not in last and "adapter" not in last:
        values["hardware.zero_stage"] = 2  # any stage from 1 on gives the same
    return values


def _fingerprints(descent: Descent, main: Manifest) -> Fingerprints:
    """Hashes of data and folders as stored, so that nothing is read again."""
    datasets = {"dataset": main.recipe["rows"]}
    for name, data in zip(_names(descent), descent.data, strict=True):
        datasets[f"stages.{name}.dataset"] = data.recipe["rows"]
    settings = main.labels.get("settings", {})
    path, fingerprint = settings.get("model", {}).get("path"), settings.get("fingerprint")
    return Fingerprints(datasets=datasets, models={path: fingerprint} if fingerprint else {})


def _prefix(name: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{name}.{key}": value for key, value in values.items()}


def format_value(value: Any) -> str:
    """A plain value in Hydra's grammar."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(format_value, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{format_value(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, str) and not (PLAIN.fullmatch(value) and value.lower() not in WORDS):
        escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
        return f"'{escaped}'"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
