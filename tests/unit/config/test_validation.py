"""Every check that types can't express, with its exact words; composed as on the command line, but in this process."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

Problems = Callable[..., list[str]]

WRONG: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "negative beta": (["beta=-1"], ["`beta` must be greater than 0, but is -1."]),
    "zero beta": (
        ["beta=0", "stages.first.beta=-0.1"],
        [
            "`beta` must be greater than 0, but is 0.",
            "`stages.first.beta` must be greater than 0, but is -0.1.",
        ],
    ),
    "beta of the last stage": (
        ["stages.second.beta=-0.1"],
        ["`stages.second.beta` must be greater than 0, but is -0.1."],
    ),
    "numbers of stages": (
        ["stages.base.learning_rate=0", "stages.first.global_batch_size=0", "stages.second.num_train_epochs=-2"],
        [
            "`stages.base.learning_rate` must be greater than 0, but is 0.",
            "`stages.first.global_batch_size` must be at least 1, but is 0.",
            "`stages.second.num_train_epochs` must be greater than 0, but is -2.",
        ],
    ),
    "numbers of the machine": (
        ["hardware.processes=0", "hardware.per_device_train_batch_size=0", "hardware.save_steps=0"],
        [
            "`hardware.processes` must be at least 1, but is 0.",
            "`hardware.per_device_train_batch_size` must be at least 1, but is 0.",
            "`hardware.save_steps` must be at least 1, but is 0.",
        ],
    ),
    "ZeRO stage": (["hardware.zero_stage=4"], ["`hardware.zero_stage` must be 0, 1, 2 or 3, but is 4."]),
    "numbers of generation and prompts": (
        ["generation.max_new_tokens=0", "prompts.limit=-3"],
        [
            "`generation.max_new_tokens` must be at least 1, but is 0.",
            "`prompts.limit` must be at least 1, but is -3.",
        ],
    ),
    "numbers of optimization": (
        ["optimization.warmup_ratio=1", "optimization.weight_decay=-0.1", "optimization.max_length=0"],
        [
            "`optimization.warmup_ratio` must be at least 0 and below 1, but is 1.",
            "`optimization.weight_decay` must be at least 0 and below 1, but is -0.1.",
            "`optimization.max_length` must be at least 1, but is 0.",
        ],
    ),
    "numbers of the data": (
        ["dataset.max_rows=0", "dataset.heldout_fraction=1"],
        [
            "`dataset.max_rows` must be at least 1, but is 0.",
            "`dataset.heldout_fraction` must lie between 0 and 1, but is 1.",
        ],
    ),
    "sft as a preference loss": (
        ["loss@stages.first.loss=sft"],
        ["`stages.first.loss` must be dpo or kto, but is sft; supervised fine-tuning is base=sft."],
    ),
    "preference loss as base": (["loss@stages.base.loss=dpo"], ["`stages.base.loss` must be sft, but is dpo."]),
    "unknown loss type": (
        ["stages.first.loss.loss_type=sigmod"],
        [
            "`stages.first.loss.loss_type` must be one of sigmoid, hinge, ipo, exo_pair, nca_pair, robust, bco_pair, "
            "sppo_hard, apo_zero, but is sigmod."
        ],
    ),
    "loss type of DPO with KTO": (
        ["objective=dpo_then_kto", "stages.second.loss.loss_type=sigmoid"],
        ["`stages.second.loss.loss_type` must be one of kto, apo_zero_unpaired, but is sigmoid."],
    ),
    "smoothing that is not read": (
        ["stages.first.loss.label_smoothing=0.1"],
        [
            "`stages.first.loss.label_smoothing=0.1` has no effect: sigmoid does not read it. "
            "Try: stages.first.loss.loss_type=robust"
        ],
    ),
    "too much smoothing": (
        ["stages.first.loss.loss_type=robust", "stages.first.loss.label_smoothing=0.5"],
        ["`stages.first.loss.label_smoothing` must be at least 0 and below 0.5, but is 0.5."],
    ),
    "weights of KTO with DPO": (
        ["stages.first.loss.desirable_weight=2"],
        ["`stages.first.loss.desirable_weight=2` has no effect: dpo does not read it."],
    ),
    "negative weight": (
        ["objective=kto", "stages.second.loss.undesirable_weight=-1"],
        ["`stages.second.loss.undesirable_weight` must be greater than 0, but is -1."],
    ),
    "another model twice": (
        ["others=[a/same,b/same]"],
        [
            "`others` must differ in the last part of their paths, and from baseline, first, second, merged, but same "
            "comes twice."
        ],
    ),
    "another model that is none": (
        ["others=[nowhere]"],
        [
            "`others` must name repositories on the hub or folders of saved models, but has nowhere. "
            "Try: others=[OWNER/NAME@COMMIT]"
        ],
    ),
    "stage without any": (
        ["order=none", "loss@stages.first.loss=kto"],
        ["`loss@stages.first.loss=kto` has no effect: the chosen order has no stage. Try: order=helpful_first"],
    ),
    "beta without any stage": (
        ["order=none", "beta=0.3"],
        ["`beta=0.3` has no effect: the chosen order has no stage. Try: order=helpful_first"],
    ),
    "no smoothing for exo_pair": (
        ["stages.first.loss.loss_type=exo_pair"],
        ["`stages.first.loss.label_smoothing` must lie between 0 and 0.5 for exo_pair, but is 0."],
    ),
    "negative seed": (["seed=-1"], ["`seed` must be at least 0, but is -1."]),
    "one criterion twice": (
        ["stages.second.criterion=helpfulness"],
        ["`stages.second.criterion` must differ from the first stage's, but both are helpfulness."],
    ),
    "batch no multiple of processes": (
        ["hardware.processes=2", "stages.second.global_batch_size=5"],
        [
            "`stages.second.global_batch_size` = 5 can't be divided among `hardware.processes` = 2 with "
            "`hardware.per_device_train_batch_size` = 8. Try: stages.second.global_batch_size=4 or 6"
        ],
    ),
    "KTO batch not divisible": (
        ["objective=dpo_then_kto", "base=none", "hardware.processes=2", "stages.second.global_batch_size=3"],
        [
            "`stages.second.global_batch_size` = 3 can't be divided among `hardware.processes` = 2 with "
            "`hardware.per_device_train_batch_size` = 8. Try: stages.second.global_batch_size=4 or 6"
        ],
    ),
    "batch not divisible": (
        ["stages.first.global_batch_size=12", "hardware.per_device_train_batch_size=8"],
        [
            "`stages.first.global_batch_size` = 12 can't be divided among `hardware.processes` = 1 with "
            "`hardware.per_device_train_batch_size` = 8. Try: stages.first.global_batch_size=8 or 16"
        ],
    ),
    "KTO with one row per device": (
        ["objective=dpo_then_kto", "hardware.per_device_train_batch_size=1"],
        [
            "`stages.second` uses KTO, which estimates its KL within the per-device batch and needs at least 2 rows in "
            "it, but has 1. Try: hardware.per_device_train_batch_size=2 stages.second.global_batch_size=8"
        ],
    ),
    "KTO with a global batch of one": (
        ["objective=dpo_then_kto", "stages.second.global_batch_size=1"],
        [
            "`stages.second` uses KTO, which estimates its KL within the per-device batch and needs at least 2 rows in "
            "it, but has 1. Try: hardware.per_device_train_batch_size=2 stages.second.global_batch_size=8"
        ],
    ),
    "merge ratio above 1": (["merge_ratio=7"], ["`merge_ratio` must lie between 0 and 1, but is 7."]),
    "merge of one stage": (
        ["order=helpful_only", "merge_ratio=0.5"],
        ["`merge_ratio` needs two stages, but the chosen order has one. Try: order=helpful_first"],
    ),
    "naive without ratio": (
        ["merge=naive"],
        ["`merge=naive` needs a ratio. Try: merge=naive merge_ratio=0.5"],
    ),
    "model path not there": (
        ["model=local", "model.path=/not/there"],
        ["`model.path` must be the folder of a saved model, but /not/there is not there."],
    ),
    "encoder path not there": (
        ["model@judge.encoder=local", "judge.encoder.path=/not/there"],
        ["`judge.encoder.path` must be the folder of a saved model, but /not/there is not there."],
    ),
    "scratch without shape": (
        ["model=nano", "model.shape=null"],
        ["`model.shape` must give the shape of the model, but is null."],
    ),
    "dataset not there": (
        ["dataset=local", "dataset.path=/not/there.jsonl"],
        ["`dataset.path` must be a file or folder, but /not/there.jsonl is not there. Try: dataset.path=FILE.jsonl"],
    ),
    "labels flipped too often": (
        ["dataset.flip_fraction=2"],
        ["`dataset.flip_fraction` must lie between 0 and 1, but is 2."],
    ),
    "mix beside a path": (
        ["dataset=local", "dataset.path=.", "dataset.mix=[{path: ., weight: 0}]"],
        [
            "`dataset.mix[0].weight` must be greater than 0, but is 0.",
            "`dataset.mix` has no effect beside `dataset.path`. Try: dataset.path=null",
        ],
    ),
    "prompt as long as everything": (
        ["optimization.max_prompt_length=128"],
        ["`optimization.max_prompt_length` must be less than `optimization.max_length` = 128, but is 128."],
    ),
    "dataset without path": (
        ["dataset=local"],
        ["`dataset.path` must be a file or folder, but None is not there. Try: dataset.path=FILE.jsonl"],
    ),
    "a stage's dataset not there": (
        ["dataset@stages.second.dataset=local", "stages.second.dataset.path=/not/there.json"],
        [
            "`stages.second.dataset.path` must be a file or folder, but /not/there.json is not there. "
            "Try: stages.second.dataset.path=FILE.jsonl"
        ],
    ),
    "unknown word for policies": (
        ["policies=first"],
        ["`policies` must be final, all or a list of baseline, first, second, merged, but is 'first'."],
    ),
    "no policies": (
        ["policies=[]"],
        ["`policies` must be final, all or a list of baseline, first, second, merged, but is []."],
    ),
    "unknown policy": (
        ["policies=[first,third]"],
        ["`policies` must name policies of the plan (baseline, first, second), but has 'third'."],
    ),
    "policy of a stage that is not there": (
        ["order=safety_only", "policies=[second]"],
        ["`policies` must name policies of the plan (baseline, first), but has 'second'."],
    ),
    "merged policy without a merge": (
        ["policies=[merged]"],
        ["`policies` must name policies of the plan (baseline, first, second), but has 'merged'."],
    ),
    "second policy of a naive merge": (
        ["merge=naive", "merge_ratio=0.5", "policies=[second]"],
        ["`policies` must name policies of the plan (baseline, first, merged), but has 'second'."],
    ),
    "beta overruled": (
        ["beta=0.3", "stages.second.beta=0.2"],
        ["`beta=0.3` has no effect: `stages.second.beta=0.2` overrules it. Give one of the two."],
    ),
    "beta overruled with one stage": (
        ["order=safety_only", "beta=0.3", "stages.first.beta=0.2"],
        ["`beta=0.3` has no effect: `stages.first.beta=0.2` overrules it. Give one of the two."],
    ),
    "second loss with one stage": (
        ["order=helpful_only", "loss@stages.second.loss=kto"],
        ["`loss@stages.second.loss=kto` has no effect: the chosen order has one stage. Try: order=helpful_first"],
    ),
    "second dataset with one stage": (
        ["order=safety_only", "dataset@stages.second.dataset=demo"],
        [
            "`dataset@stages.second.dataset=demo` has no effect: the chosen order has one stage. "
            "Try: order=helpful_first"
        ],
    ),
    "base dataset without base": (
        ["base=none", "dataset@stages.base.dataset=demo"],
        ["`dataset@stages.base.dataset=demo` has no effect: there is no base stage with base=none. Try: base=sft"],
    ),
    "base loss without base": (
        ["base=none", "loss@stages.base.loss=sft"],
        ["`loss@stages.base.loss=sft` has no effect: there is no base stage with base=none. Try: base=sft"],
    ),
}


@pytest.mark.parametrize(("overrides", "sentences"), WRONG.values(), ids=list(WRONG))
def test_a_mistake_is_told_in_these_words(
    problems_of: Problems, overrides: Sequence[str], sentences: Sequence[str]
) -> None:
    assert problems_of(*overrides) == list(sentences)


#: Values that would fail late or do something else than they say, with how the sentence has to begin.
REFUSED: dict[str, tuple[Sequence[str], str]] = {
    "model without path": (["model=local"], "`model.path` must be the folder of a saved model, but"),
    "encoder without path": (["model@judge.encoder=local"], "`judge.encoder.path` must be the folder of a saved model"),
    "path of another source": (["model=nano", "model.source=path"], "`model.path` must be the folder of a saved model"),
    "misspelt accelerator": (["hardware.accelerator=tpu"], "`hardware.accelerator` "),
    "no held-out rows": (["dataset.max_heldout_rows=0"], "`dataset.max_heldout_rows` must be at least 1, but"),
    "negative held-out rows": (
        ["dataset.max_heldout_rows=-1"],
        "`dataset.max_heldout_rows` must be at least 1",
    ),
    "negative KL prompts": (["generation.kl_prompts=-1"], "`generation.kl_prompts` must be at least 0, but is -1."),
    "forced beta overruled": (["++beta=0.3", "stages.second.beta=0.2"], "`beta=0.3` has no effect: "),
}


@pytest.mark.parametrize(("overrides", "start"), REFUSED.values(), ids=list(REFUSED))
def test_a_value_that_would_fail_later_is_refused_now(
    problems_of: Problems, overrides: Sequence[str], start: str
) -> None:
    sentences = problems_of(*overrides)
    assert len(sentences) == 1
    assert sentences[0].startswith(start)


def test_all_problems_are_reported_together(problems_of: Problems) -> None:
    overrides = ["beta=-1", "merge_ratio=7", "dataset.max_rows=0", "hardware.zero_stage=9", "policies=[]"]
    found = problems_of(*overrides, "stages.base.learning_rate=0", "model=local", "model.path=/not/there")
    assert [sentence.split("`")[1] for sentence in found] == [
        "beta",
        "merge_ratio",
        "dataset.max_rows",
        "stages.base.learning_rate",
        "model.path",
        "policies",
        "hardware.zero_stage",
    ]


def test_a_folder_without_a_model_is_told_from_one_that_is_not_there(problems_of: Problems, tmp_path: Path) -> None:
    assert problems_of("model=local", f"model.path={tmp_path}") == [
        f"`model.path` must be the folder of a saved model, but {tmp_path} has no config.json."
    ]


REMEDIES = {
    "batch": ["stages.first.global_batch_size=12", "hardware.per_device_train_batch_size=8"],
    "KTO": ["objective=dpo_then_kto", "hardware.per_device_train_batch_size=1"],
    "KTO on eight devices": [
        "objective=dpo_then_kto",
        "optimization=paper",
        "hardware=a100x8",
        "stages.second.global_batch_size=8",
    ],
    "one-stage merge": ["order=helpful_only", "merge_ratio=0.5"],
    "naive": ["merge=naive"],
    "smoothing": ["stages.first.loss.label_smoothing=0.1"],
    "smoothing with KTO": ["objective=kto_then_dpo", "stages.first.loss.label_smoothing=0.1"],
}


@pytest.mark.parametrize("overrides", REMEDIES.values(), ids=list(REMEDIES))
def test_what_a_message_tells_to_try_helps(
    problems_of: Problems, configure: Callable[..., object], overrides: list[str]
) -> None:
    remedy = problems_of(*overrides)[0].split("Try: ")[1].split(" or ")[0].split()
    names = [override.split("=")[0] for override in remedy]
    configure(*(override for override in overrides if override.split("=")[0] not in names), *remedy)


ALLOWED = {
    "merge that is the first": ["merge_ratio=0"],
    "merge that is the second": ["merge_ratio=1"],
    "naive": ["merge=naive", "merge_ratio=0.5", "policies=[baseline,first,merged]"],
    "batch below the device's": ["stages.first.global_batch_size=4"],
    "KTO with two rows": ["objective=kto", "hardware.per_device_train_batch_size=2"],
    "no KL": ["generation.kl_prompts=0"],
    "other first beta": ["stages.first.beta=0.3"],
    "the same beta twice": ["beta=0.3", "stages.second.beta=0.3"],
    "all prompts": ["prompts.limit=null"],
    "second stage with data of its own": ["dataset@stages.second.dataset=demo", "stages.second.dataset.max_rows=9"],
}


@pytest.mark.parametrize("overrides", ALLOWED.values(), ids=list(ALLOWED))
def test_sound_settings_pass(configure: Callable[..., object], overrides: list[str]) -> None:
    configure(*overrides)


WRONG_REPORT = {
    "confidence above 1": (["confidence=95"], ["`confidence` must lie between 0 and 1, but is 95."]),
    "few rounds": (["bootstrap_rounds=10"], ["`bootstrap_rounds` must be at least 100, but is 10."]),
    "negative seed": (["seed=-1"], ["`seed` must be at least 0, but is -1."]),
    "negative examples": (["examples=-1"], ["`examples` must be at least 0, but is -1."]),
    "both": (
        ["confidence=0", "bootstrap_rounds=-1"],
        [
            "`confidence` must lie between 0 and 1, but is 0.",
            "`bootstrap_rounds` must be at least 100, but is -1.",
        ],
    ),
}


@pytest.mark.parametrize(("overrides", "sentences"), WRONG_REPORT.values(), ids=list(WRONG_REPORT))
def test_a_mistake_in_a_report_is_told_in_these_words(
    problems_of: Problems, overrides: list[str], sentences: list[str]
) -> None:
    assert problems_of(*overrides, command="report") == sentences
