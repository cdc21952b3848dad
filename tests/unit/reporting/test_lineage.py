"""What is stored of policies: the command that made one, which plans the same id again."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sacpo_exp.pipeline import take_fingerprints
from sacpo_exp.plan import Plan, make_plan, policy_of_spec
from sacpo_exp.reporting.lineage import Lineage, find_overrides, write_command
from sacpo_exp.store import Store

OVERRIDES = ("model=tiny", "dataset.max_rows=24", "merge_ratio=0.5")


def store_plan(plan: Plan, outputs: Path) -> None:
    """Write everything that `train` makes, without what is in it."""
    for spec in plan.training():
        counts = {"train": {"examples": 24, "labels": {}}} if spec.kind == "dataset" else {}
        Store(outputs / "store").get_or_build(spec, lambda _, counts=counts: counts)


def read_lineage(outputs: Path) -> Lineage:
    return {manifest.id: (folder, manifest) for folder, manifest in Store(outputs / "store").manifests()}


def test_the_stored_overrides_plan_the_same_ids(
    cli: Callable[..., Any], configure: Callable[..., Any], tmp_path: Path
) -> None:
    config = configure(*OVERRIDES)
    plan = make_plan(config, replace(take_fingerprints(config), overrides=OVERRIDES))
    store_plan(plan, tmp_path / "outputs")
    lineage = read_lineage(tmp_path / "outputs")
    for name in ("baseline", "first", "second", "merged"):
        assert find_overrides(policy_of_spec(plan.policies[name]), lineage) == list(OVERRIDES)
    assert find_overrides(policy_of_spec(plan.model), lineage) is None  # nothing was trained
    words = shlex.split(write_command("train", [*OVERRIDES, "dry_run=true"]))
    assert words[:1] == ["sacpo"]
    done = cli(*words[1:])
    assert f"stored  merge      {plan.policies['merged'].id}" in done.stdout
    assert "0 to make" in done.stdout


def test_a_command_survives_a_shell() -> None:
    overrides = ["model.chat_template='it\\'s {{ messages }}'", "dataset.mix=[{path:a b,weight:2}]"]
    assert shlex.split(write_command("train", overrides))[2:] == overrides
