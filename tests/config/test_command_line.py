"""The real commands, as a user types them: what they print, how they end, and that mistakes cost no import of torch."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import environment
from tiny import write_lines

Command = Callable[..., Any]

#: Command, what is wrong, exit code 2 and the beginning of the one sentence.
MISTAKES = {
    "empty outputs": ("train", "paths.outputs=", "`paths.outputs` must be a folder, or the name of a new one, but is"),
    "a file as outputs": ("report", "paths.outputs={rows}/x", "`paths.outputs` must be a folder, or the name of a new"),
    "argument that the project owns": (
        "train",
        "trainer.learning_rate=1e-5 dry_run=true hardware=cpu model=tiny generation.dtype=float32",
        "`trainer.learning_rate` has a key of its own. Try: stages.NAME.learning_rate=VALUE",
    ),
    "no key": ("train", "=3", "an override can't be read: "),
    "removal": ("train", "~beta", "`beta` can't be removed"),
    "a number without end": ("train", f"seed={'9' * 5000}", "an override can't be read: "),
    "nothing trained": ("eval", "model=tiny hardware=cpu generation.dtype=float32", "not trained yet: tiny.sft-"),
}


@pytest.mark.parametrize(("command", "arguments", "sentence"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_is_one_sentence(cli: Command, rows_file: Path, command: str, arguments: str, sentence: str) -> None:
    result = cli(command, *arguments.format(rows=rows_file).split(), light=True)
    assert (result.code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert result.stderr.startswith(f"error: {sentence}")


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    program = f'"{sys.executable}" -m sacpo_exp.train model=tiny base=none dry_run=true'
    command = ["bash", "-c", f"{program} | head -n 0; exit ${{PIPESTATUS[0]}}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")


def test_cfg_job_prints_the_configuration(cli: Command) -> None:
    result = cli("train", "--cfg", "job", "beta=0.05", light=True)
    assert (result.code, result.stderr) == (0, "")
    printed = yaml.safe_load(result.stdout)
    assert printed["beta"] == 0.05
    assert list(printed["stages"]) == ["sft", "helpfulness", "safety"]
    assert "hydra" not in printed


def test_a_dry_run_prints_the_plan_of_any_machine(cli: Command) -> None:
    paper = ["hardware=a100x8", "optimization=paper", "order=helpful_only", "base=none"]
    result = cli("train", "dry_run=true", *paper, light=True)
    assert (result.code, result.stderr) == (0, "")
    head, *made, detail, total, memory, disk, summed, hours = result.stdout.splitlines()
    assert head == "plan on hardware=a100x8: 8 × cuda, ZeRO 3"
    assert [line.split()[2] for line in made] == ["model", "dataset", "stage"]
    assert "stage: DPO on demo, β = 0.1, lr 2e-05, 3 epochs, global batch 256 = 8 × 16 × 2, about 0.00025 GPU" in detail
    assert total == "0 stored, 3 to make, in outputs/store"
    assert "it fits (135 M parameters, 32 sequences of 512 tokens per pass)" in memory
    assert "1 policies to be made take 0.3 GB, and up to two checkpoints of a stage 3.2 GB; outputs has" in disk
    assert summed == "in all   1 stages, 0 stored, 1 to train"
    assert hours.strip() == "about 0.0 GPU hours of training with hardware=a100x8 (312 TFLOPS × 0.4 per device)"


def test_a_run_that_can_t_fit_is_refused_before_anything_is_loaded(cli: Command) -> None:
    result = cli(
        "train", "model=alpaca_7b", "hardware=a100x1", "hardware.zero_stage=3", f"model.revision={40 * '1'}", light=True
    )
    assert (result.code, result.stdout) == (2, "")
    assert "GiB per device (weights " in result.stderr


def test_a_dry_run_of_eval_shows_what_is_made_of_the_stages(cli: Command) -> None:
    result = cli("eval", "dry_run=true", "model=tiny", light=True)
    assert (result.code, result.stderr) == (0, "")
    for kind in ("model", "stage", "scorer", "responses", "judgments", "divergence"):
        assert f" to make {kind} " in result.stdout


def test_a_bad_job_does_not_stop_a_sweep(cli: Command) -> None:
    result = cli("train", "-m", "beta=-1,0.1,-2", "dry_run=true", light=True)
    assert result.code == 2
    assert result.stderr.splitlines() == [
        "error: `beta` must be greater than 0, but is -1.",
        "error: `beta` must be greater than 0, but is -2.",
    ]
    assert result.stdout.count("plan on hardware=auto") == 1


def test_a_criterion_that_a_file_names_twice_is_refused(cli: Command, tmp_path: Path) -> None:
    (tmp_path / "conf" / "order").mkdir(parents=True)
    content = "# @package _global_\ndefaults:\n  - override /criterion: [helpfulness, safety, helpfulness]\n"
    (tmp_path / "conf" / "order" / "mine.yaml").write_text(content, "utf-8")
    result = cli("train", "--config-dir", "conf", "order=mine", "dry_run=true", light=True)
    assert (result.code, result.stdout) == (2, "")
    assert result.stderr == ("error: `criterion` must name each criterion once, but has helpfulness twice.\n")


def test_a_loss_on_data_of_another_form_is_told_both_forms(cli: Command, tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}?", "completion": "Yes.", "label": i % 2 == 0} for i in range(40)]
    path = write_lines(tmp_path / "labels.jsonl", rows)
    data = ["dataset=local", f"dataset.path={path}", "dataset.criterion=safety", "model=tiny", "dry_run=true"]
    data += ["order=safety_only", "base=none", "hardware=cpu", "generation.dtype=float32"]
    result = cli("train", *data, light=True)
    assert (result.code, result.stdout) == (2, "")
    assert "can't be used for stages.safety: the loss reads pairs (prompt, chosen, rejected), but" in result.stderr
    assert result.stderr.endswith(" Try: objective=bco\n")
    assert cli("train", *data, "objective=bco", light=True).code == 0
