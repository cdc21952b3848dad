"""The derived command of a stored policy computes the policy's id, whatever it was made with."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sacpo_exp.pipeline import take_fingerprints
from sacpo_exp.plan import Plan, make_plan
from sacpo_exp.reporting.commands import derive_command, format_value
from sacpo_exp.reporting.lineage import read_lineage
from sacpo_exp.store import Store

#: Overrides of a `train`, `{}` standing for a path, and the derived command where it is worth reading. Composing takes
#: a second or two, so that most are left to `make test-all`.
QUICK = [
    (["model=tiny", "merge=naive", "merge_ratio=0.5", "beta=0.2"], "model=tiny beta=0.2 merge=naive merge_ratio=0.5"),
    (["model=tiny", "objective=kto_then_dpo", "merge_ratio=0.25", "seed=3", "stages.first.beta=0.2"], None),
    (["dataset=local", "dataset.mix=[{{path:{rows},weight:2}},{{path:{rows},weight:1}}]"], None),
]
SLOW = [
    (["base=none", "order=safety_only", "beta=0.3"], "model=smollm2_135m base=none order=safety_only beta=0.3"),
    (["model=nano", "order=safety_first", "objective=kto", "hardware.per_device_train_batch_size=4"], None),
    (["model=nano", "objective=kto", "hardware.per_device_train_batch_size=4", "hardware.processes=2"], None),
    (["optimization=paper", "hardware.zero_stage=1", "optimization.weight_decay=0.1"], None),
    (["optimization=paper", "stages.second.loss.loss_type=robust", "stages.second.loss.label_smoothing=0.1"], None),
    (["model=tiny", "model.chat_template='it\\'s {{{{ messages }}}} \\\\'"], None),
    (["dataset=local", "dataset.path={rows}", "dataset.drop_ties=true", "dataset.seed=2"], None),
    (["dataset@stages.second.dataset=local", "stages.second.dataset.path={rows}"], None),
    (["adapter=lora", "adapter.r=8", "adapter.lora_dropout=0.1", "adapter.target_modules=[v_proj,q_proj]"], None),
    (["model=local", "model.path={model}", "dataset.flip_fraction=0.25"], None),
]
CASES = [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]


def store_plan(plan: Plan, outputs: Path) -> None:
    """Write everything that `train` makes, without what is in it."""
    store, counts = Store(outputs / "store"), {"labels": {}, "missing": {}}
    for spec in plan.training():
        if not (spec.kind == "model" and spec.recipe["source"] == "path"):
            store.get_or_build(spec, lambda _: {"train": counts, "heldout": counts})


@pytest.mark.parametrize(("given", "readable"), CASES)
def test_the_derived_command_computes_the_same_id(
    configure: Callable[..., Any], tmp_path: Path, rows_file: Path, model_folder: Path, given: list[str], readable: str
) -> None:
    config = configure(*(text.format(rows=rows_file, model=model_folder) for text in given))
    plan = make_plan(config, take_fingerprints(config))
    store_plan(plan, tmp_path)
    last = list(plan.made())[-1]
    command = derive_command(read_lineage(Store(tmp_path / "store")), last.id)
    assert command
    assert command.is_exact
    derived = configure(*command.overrides)
    assert last.id in {spec.id for spec in make_plan(derived, take_fingerprints(derived)).made()}
    if readable:
        assert " ".join(command.overrides) == readable


def test_the_command_line_itself_plans_the_same_id(
    cli: Callable[..., Any], configure: Callable[..., Any], tmp_path: Path
) -> None:
    config = configure("model=tiny", "dataset.max_rows=24", "merge_ratio=0.5")
    plan = make_plan(config, take_fingerprints(config))
    store_plan(plan, tmp_path / "outputs")
    command = derive_command(read_lineage(Store(tmp_path / "outputs" / "store")), plan.policies["merged"].id)
    assert command
    words = shlex.split(command.write("train", "dry_run=true"))
    assert words[:2] == ["python", "-m"]
    done = cli(words[2].removeprefix("sacpo_exp."), *words[3:])
    assert f"stored  merge      {plan.policies['merged'].id}" in done.stdout
    assert "6 stored, 0 to make" in done.stdout


def test_what_is_not_stored_is_not_claimed(configure: Callable[..., Any], tmp_path: Path) -> None:
    config = configure("model=tiny", "dataset.max_rows=24")
    plan = make_plan(config, take_fingerprints(config))
    store_plan(plan, tmp_path)
    lineage = read_lineage(Store(tmp_path / "store"))
    data = next(manifest for manifest in lineage.manifests.values() if manifest.kind == "dataset")
    del data.labels["settings"]  # as older versions wrote it
    command = derive_command(lineage, plan.policies["second"].id)
    assert command
    assert not command.is_exact
    assert derive_command(lineage, "made elsewhere") is None
    lineage.manifests[plan.policies["second"].id].labels["model"] = "renamed"
    assert derive_command(lineage, plan.policies["second"].id) is None


@pytest.mark.parametrize(
    "value", [None, True, 3, 0.0005, 1e-7, "plain", "null", "it's", "a\\", "\\'", "", "1", [1, "a b"], {"k": 1.5}]
)
def test_values_survive_hydras_grammar(value: Any) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (parsed,) = OverridesParser.create().parse_overrides([f"key={format_value(value)}"])
    assert parsed.value() == value
