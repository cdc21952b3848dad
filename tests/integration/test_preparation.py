"""Prepared datasets: token ids as TRL makes them, prompts cut, everything counted, training on real rows."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from real_data import find_real
from tiny import compose_tiny, make_run, train_run, write_lines

from sacpo_exp.config.stages import loss_of
from sacpo_exp.data.preferences import make_view
from sacpo_exp.data.sources import load_parts, read_view, save_view
from sacpo_exp.data.tokenising import cut_prompts
from sacpo_exp.errors import DataError
from sacpo_exp.method.losses import View
from sacpo_exp.pipeline import Run, locate, prepare
from sacpo_exp.prepare import prepare_all
from sacpo_exp.training.models import load_policy, load_tokenizer


@pytest.fixture(scope="module")
def run(outputs: Path) -> Run:
    """SFT, then DPO for safety, then KTO for helpfulness."""
    return make_run(outputs, "order=safety_first", "objective=dpo_then_kto")


def prepared(run: Run, number: int, split: str = "train") -> list[dict[str, Any]]:
    return list(read_view(prepare(run, run.plan.stages[number]), split))


def by_trl(run: Run, tmp_path: Path, number: int) -> list[dict[str, Any]]:
    """The view's rows as TRL's own trainer prepares them."""
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

    data = load_parts(run.config.dataset)[0]["train"]
    view = loss_of(run.plan.stages[number].config).view
    save_view(make_view(data, view, run.plan.stages[number].config.criterion), tmp_path / "view" / "train")
    location = locate(run, run.plan.model)
    trainer, config = (DPOTrainer, DPOConfig) if view == View.pairs else (KTOTrainer, KTOConfig)
    arguments = {"output_dir": str(tmp_path), "use_cpu": True, "report_to": [], "bf16": False, "max_length": 256}
    made = trainer(
        model=load_policy(location, "float32"),
        args=config(per_device_train_batch_size=4, precompute_ref_log_probs=True, **arguments),
        train_dataset=read_view(tmp_path / "view", "train"),
        processing_class=load_tokenizer(location, run.config.model.chat_template),
    )
    return list(made.train_dataset)


@pytest.mark.parametrize(
    ("number", "names"),
    [(1, ["prompt_ids", "chosen_ids", "rejected_ids"]), (2, ["prompt_ids", "completion_ids"])],
    ids=["pairs", "labels"],
)
def test_token_ids_are_those_that_trl_makes(run: Run, tmp_path: Path, number: int, names: list[str]) -> None:
    ours, theirs = prepared(run, number), by_trl(run, tmp_path, number)
    assert [[row[name] for name in names] for row in ours] == [[row[name] for name in names] for row in theirs]


def test_a_long_prompt_is_cut_from_the_left(run: Run) -> None:
    tokenizer = load_tokenizer(locate(run, run.plan.model), run.config.model.chat_template)
    text = "first things first: how do I bake bread for a large family at home"
    short = (("user", "Hi"),)
    dialogue = (*short, ("assistant", "Hello"), ("user", text))
    cuts = cut_prompts(tokenizer, [short, dialogue], 6)
    assert cuts[short] == short
    ((role, left),) = cuts[dialogue]
    assert role == "user"
    assert text.endswith(left)
    assert len(tokenizer(left, add_special_tokens=False)["input_ids"]) == 6


configure_prepare = partial(compose_tiny, "prepare")


def test_prepare_prints_what_there_is_and_the_second_time_changes_nothing(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure_prepare(outputs, "order=helpful_only")
    prepare_all(config)
    first = capsys.readouterr().out
    assert "rows                                            32        24         8" in first
    assert "demo, schema pku, read as responses" in first
    assert "demo, schema pku, read as pairs" in first
    assert "desirable for helpfulness" in first
    assert "evaluation prompts (prompts=demo) that it trains on: 0 of 12" in first
    prepare_all(config)
    assert capsys.readouterr().out == first


def test_a_leaked_prompt_is_reported(outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    usual = make_run(outputs)
    rows = [dict(row) for row in load_parts(usual.config.dataset)[0]["train"].rows]
    from sacpo_exp.evaluation.responding import evaluation_prompts

    leaked = evaluation_prompts(usual)[0]["prompt"]
    rows[0]["prompt"] = f"  {leaked.upper()} "
    path = write_lines(tmp_path / "rows.jsonl", rows)
    local = ["dataset=local", f"dataset.path={path}", "dataset.heldout_path=" + str(path), "order=helpful_only"]
    prepare_all(configure_prepare(outputs, *local))
    assert f"that it trains on: 1 of 12\n  {leaked[:100]}" in capsys.readouterr().out


def test_a_kind_of_prompts_that_no_criterion_counts_is_refused(outputs: Path, tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text('["One?", "Two?"]', "utf-8")
    prompts = ["prompts=local", f"prompts.path={path}", "prompts.limit=null", "order=helpful_only"]
    with pytest.raises(DataError, match=r"is of the kind 'rsiky', which no criterion counts"):
        prepare_all(configure_prepare(outputs, *prompts, "prompts.kind=rsiky"))
    own = ["stages.helpfulness.criterion.prompt_kinds=[tricky]", "prompts.kind=tricky"]
    prepare_all(configure_prepare(outputs, *prompts, *own))


def test_the_real_rows_train_by_both_losses(tmp_path: Path) -> None:
    path = find_real("preferences/pku_saferlhf_sample_32.json")
    run = train_run(tmp_path, "dataset=local", f"dataset.path={path}", "objective=dpo_then_kto", "base=none")
    assert all(run.store.has(stage.artifact) for stage in run.plan.stages)
