"""`sacpo multiplier` on two policies that were trained in a small world, against the λ* that is known there."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sacpo_exp.config.studies import WorldConfig
from sacpo_exp.method.theory import normalise, solve_multiplier
from sacpo_exp.studies.oracle.world import World, comparison_rows, make_world

CRITERIA = ("helpfulness", "safety")
THRESHOLD = 0.5
ROWS = 3000
SETTINGS = [
    "model=oracle",
    "hardware=cpu_small",
    "dataset=local",
    "dataset.path=rows.jsonl",
    "dataset.heldout_path=heldout.jsonl",
    "earlier_betas=[1.0]",
    "beta=1.0",
    "objective=dpo_sft",
    "stage_defaults.sft.num_train_epochs=5",
    "stage_defaults.first.num_train_epochs=6",
    "prompts=local",
    "prompts.path=prompts.jsonl",
    "generation.max_new_tokens=8",
]


def write_rows(world: World, path: Path, count: int, part: str) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in comparison_rows(world, count, 0, part)), "utf-8")


def test_the_printed_multiplier_is_near_that_of_the_world(cli: Callable[..., Any], tmp_path: Path) -> None:
    world = make_world(WorldConfig(4, 6, 1.0, -0.5, 1.0, 0), CRITERIA)
    write_rows(world, tmp_path / "rows.jsonl", ROWS, "train")
    write_rows(world, tmp_path / "heldout.jsonl", 48, "heldout")
    prompts = [json.dumps({"prompt": prompt}) for prompt in world.prompts]
    (tmp_path / "prompts.jsonl").write_text("\n".join(prompts), "utf-8")

    asked = (*SETTINGS, f"threshold={THRESHOLD}", "samples=100")
    early = cli("multiplier", *asked)
    assert early.code == 2
    assert "sacpo train merge=naive merge_ratio=0.5" in early.stderr
    trained = cli("train", *SETTINGS, "merge=naive", "merge_ratio=0.5")
    assert trained.code == 0, trained.stderr

    done = cli("multiplier", *asked)
    assert done.code == 0, done.stderr
    (value,) = re.findall(r"^λ\* = ([\d.]+) \[", done.stdout, re.MULTILINE)
    # The base has learned the uniform distribution of the rows, under which every criterion has mean 0.
    uniform = normalise(np.zeros_like(world.reference))
    exact = solve_multiplier(uniform, world.reward, world.values["safety"], 1.0, THRESHOLD)
    assert float(value) == pytest.approx(exact, rel=0.25)  # of the base's responses some were never compared
    assert f"stages.safety.beta={1 / float(value):.2g}"[:23] in done.stdout

    refused = cli("multiplier", *SETTINGS, "threshold=9", "samples=100")
    assert refused.code == 2
    assert refused.stderr.splitlines()[-1].startswith("error: `threshold` must be below")
