"""Lengths from the data: the quantile of real dialogues, up to the model's limit, known to plans and to workers."""

import math
from pathlib import Path

import numpy as np
import pytest
from real_data import find_real
from tiny import make_config, make_run

from sacpo_exp.cluster.memory import foresee_length
from sacpo_exp.config.loading import read_job, write_config
from sacpo_exp.data.preferences import as_message
from sacpo_exp.data.preparation import Limits, choose_lengths
from sacpo_exp.data.sources import load_parts
from sacpo_exp.errors import DataError
from sacpo_exp.pipeline import Run, locate, make_job, prepare
from sacpo_exp.reporting.planning import print_plan
from sacpo_exp.training.models import load_tokenizer

AUTO = ["optimization.max_length=auto", "optimization.max_prompt_length=auto"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Rows of PKU-SafeRLHF for a model that has more positions than they take."""
    path = find_real("preferences/pku_saferlhf_sample_32.json")
    rows = ["dataset=local", f"dataset.path={path}", "dataset.max_rows=null", "dataset.max_heldout_rows=null"]
    return make_run(tmp_path_factory.mktemp("outputs"), *rows, *AUTO, "model.shape.max_position_embeddings=1024")


def count_tokens(run: Run) -> list[tuple[int, int]]:
    """Tokens of the prompt and of the whole of every dialogue, one call of the chat template each."""
    tokenizer = load_tokenizer(locate(run, run.plan.model), run.config.model.chat_template)
    found = {}
    for row in (row for part in load_parts(run.config.dataset)[0].values() for row in part.rows):
        asked = [{"role": "user", "content": row["prompt"]}]
        for text in (row["response_0"], row["response_1"]):
            whole = [*asked, {"role": "assistant", "content": text}]
            found[row["prompt"], text] = tuple(
                len(tokenizer.apply_chat_template(messages, add_generation_prompt=is_open)["input_ids"])
                for messages, is_open in ((asked, True), (whole, False))
            )
    return list(found.values())


def test_lengths_are_the_quantiles_of_real_rows(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        prepare(run, run.plan.stages[1])
    prompts, wholes = zip(*count_tokens(run), strict=True)
    expected = [sorted(lengths)[math.ceil(0.99 * (len(lengths) - 1))] for lengths in (wholes, prompts)]
    metrics = run.store.manifest(run.plan.stages[1].data).metrics
    assert [metrics["max_length"], metrics["max_prompt_length"]] == expected
    share = np.mean(np.array(wholes) <= expected[0])
    line = f"max_length=auto: {expected[0]} tokens, max_prompt_length=auto: {expected[1]} tokens; "
    assert f"{line}{100 * share:.1f} % of {len(wholes)} dialogues fit; model limit 1024" in caplog.text


def test_a_worker_gets_numbers_and_the_id_keeps_the_word(run: Run, tmp_path: Path) -> None:
    stage = run.plan.stages[1]
    job = make_job(run, stage, run.plan.model, tmp_path)
    job = read_job(write_config(job, tmp_path / "job.yaml"))
    assert job.config.optimization.max_length == run.store.manifest(stage.data).metrics["max_length"]
    assert stage.artifact.recipe["optimization"]["max_length"] == stage.data.recipe["max_length"] == "auto"


def test_the_plan_says_which_number_it_counts_with(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for stage in run.plan.stages:
        prepare(run, stage)
    print_plan(run)
    most = max(run.store.manifest(stage.data).metrics["max_length"] for stage in run.plan.stages)
    printed = capsys.readouterr().out
    assert f"sequences of {most} tokens per pass" in printed
    assert f"max_length=auto: {most} tokens, as the data were prepared" in printed


def test_before_preparation_texts_are_measured_and_the_model_limits(tmp_path: Path) -> None:
    here, source = foresee_length(make_config(tmp_path, *AUTO))
    assert 40 < here.optimization.max_length < 90  # the demo's dialogues have up to about 90 tokens
    assert "bytes per token" in source
    away, source = foresee_length(make_config(tmp_path, *AUTO, "dataset=pku_saferlhf_30k", "dataset.revision=main"))
    assert (away.optimization.max_length, "the model's limit" in source) == (256, True)
    given, source = foresee_length(make_config(tmp_path))
    assert (given.optimization.max_length, source) == (256, "")


def test_where_the_model_is_short_prompts_get_half_of_it(run: Run) -> None:
    tokenizer = load_tokenizer(locate(run, run.plan.model), run.config.model.chat_template)
    row = {"prompt": as_message("user", "one two " * 60), "completion": as_message("assistant", "three four " * 60)}
    assert choose_lengths(tokenizer, [row], Limits("auto", "auto", 100)) == Limits(100, 50, 100)
    assert choose_lengths(tokenizer, [row], Limits(90, "auto", 100)) == Limits(90, 45, 100)
    assert choose_lengths(tokenizer, [row], Limits(90, 40, 100)) == Limits(90, 40, 100)
    long = choose_lengths(tokenizer, [row], Limits("auto", 8, 10_000))
    assert 60 * 2 < long.max_length < 1000


def test_a_prompt_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path, "optimization.max_length=10", "optimization.max_prompt_length=9")
    with pytest.raises(DataError, match=r"leaves nothing of `optimization\.max_length` = 10"):
        prepare(run, run.plan.stages[0])
