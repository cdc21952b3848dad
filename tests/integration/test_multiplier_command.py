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
from sacpo_exp.studies.oracle.world import comparison_rows, make_world

CRITERIA = ("helpfulness", "safety")
THRESHOLD = 0.5
ROWS = 3000
SETTINGS = ["model=oracle", "hardware=cpu_small", "dataset=local", "dataset.path=rows.jsonl"]
SETTINGS += ["dataset.heldout_path=heldout.jsonl", "prompts=local", "prompts.path=prompts.jsonl"]
SETTINGS += ["objective=dpo_sft", "earlier_betas=[1.0]", "beta=1.0", "generation.max_new_tokens=8"]
SETTINGS += [f"stage_defaults.{stage}.num_train_epochs={epochs}" for stage, epochs in (("sft", 5), ("first", 6))]


def test_policies_have_to_be_trained_first(cli: Callable[..., Any]) -> None:
    done = cli("multiplier", "model=tiny", "threshold=0.5")
    assert done.code == 2
    assert "sacpo train merge=naive merge_ratio=0.5" in done.stderr


@pytest.mark.slow
def test_the_printed_multiplier_is_near_that_of_the_world(cli: Callable[..., Any], tmp_path: Path) -> None:
    world = make_world(WorldConfig(4, 6, 1.0, -0.5, 1.0, 0), CRITERIA)
    files: dict[str, Any] = {"rows": comparison_rows(world, ROWS, 0)}
    files["heldout"] = comparison_rows(world, 48, 0, "heldout")
    files["prompts"] = [{"prompt": prompt} for prompt in world.prompts]
    for name, rows in files.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")

    trained = cli("train", *SETTINGS, "merge=naive", "merge_ratio=0.5")
    assert trained.code == 0, trained.stderr

    done = cli("multiplier", *SETTINGS, f"threshold={THRESHOLD}", "samples=100")
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
