"""Every check that types can't express, with its exact words; composed as on the command line, but in this process."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sacpo_exp.config.stages import POLICIES
from sacpo_exp.method.losses import LOSSES

Problems = Callable[..., list[str]]

WRONG: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "negative beta": (["beta=-1"], ["`beta` must be greater than 0, but is -1."]),
    "zero beta": (
        ["beta=0", "stages.helpfulness.beta=-0.1"],
        [
            "`beta` must be greater than 0, but is 0.",
            "`stages.helpfulness.beta` must be greater than 0, but is -0.1.",
        ],
    ),
    "beta of the last stage": (
        ["stages.safety.beta=-0.1"],
        ["`stages.safety.beta` must be greater than 0, but is -0.1."],
    ),
    "numbers of stages": (
        ["stages.sft.learning_rate=0", "stages.helpfulness.global_batch_size=0", "stages.safety.num_train_epochs=-2"],
        [
            "`stages.sft.learning_rate` must be greater than 0, but is 0.",
            "`stages.helpfulness.global_batch_size` must be at least 1, but is 0.",
            "`stages.safety.num_train_epochs` must be greater than 0, but is -2.",
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
        ["losses=[sft,dpo]"],
        ["`stages.helpfulness.loss.name` must read preferences, but is sft. Try: stages.helpfulness.loss.name=dpo"],
    ),
    "preference loss as base": (
        ["stages.sft.loss.name=dpo"],
        ["`stages.sft.loss.name` must be sft without a criterion, but is dpo."],
    ),
    "unknown loss": (["losses=[sigmod]"], [f"`losses` must be of {', '.join(LOSSES)}, but is sigmod."]),
    "unknown loss of a stage": (
        ["stages.safety.loss.name=sigmoid"],
        [f"`stages.safety.loss.name` must be of {', '.join(LOSSES)}, but is sigmoid."],
    ),
    "no loss": (["losses=[]"], ["`losses` must have a value for each stage, but is empty. Try: losses=[dpo]"]),
    "earlier beta": (["earlier_betas=[0]"], ["`earlier_betas[0]` must be greater than 0, but is 0."]),
    "smoothing that is not read": (
        ["stages.helpfulness.loss.label_smoothing=0.1"],
        ["`stages.helpfulness.loss.label_smoothing=0.1` has no effect: dpo does not read it, but exo_pair, robust do."],
    ),
    "too much smoothing": (
        ["losses=[robust]", "stages.helpfulness.loss.label_smoothing=0.5"],
        ["`stages.helpfulness.loss.label_smoothing` must lie between 0 and 0.5, but is 0.5."],
    ),
    "weights of KTO with DPO": (
        ["stages.helpfulness.loss.desirable_weight=2"],
        [
            "`stages.helpfulness.loss.desirable_weight=2` has no effect: dpo does not read it, but kto, "
            "apo_zero_unpaired do."
        ],
    ),
    "negative weight": (
        ["objective=kto", "stages.safety.loss.undesirable_weight=-1"],
        ["`stages.safety.loss.undesirable_weight` must be greater than 0, but is -1."],
    ),
    "another model twice": (
        ["others=[a/same,b/same]"],
        [
            f"`others` must differ in the last part of their paths, and from {', '.join(POLICIES)}, but same comes "
            "twice."
        ],
    ),
    "another model that is none": (
        ["others=[nowhere]"],
        [
            "`others` must name repositories on the hub or folders of saved models, but has nowhere. "
            "Try: others=[OWNER/NAME@COMMIT]"
        ],
    ),
    "earlier beta of one stage": (
        ["order=helpful_only", "earlier_betas=[0.3]"],
        ["`earlier_betas=[0.3]` has no effect: the chosen order has no stage before the last. Try: beta=VALUE"],
    ),
    "own numbers of a later stage of a naive merge": (
        ["merge=naive", "merge_ratio=0.5", "stages.safety.trainer.weight_decay=0.1"],
        [
            "`stages.safety.trainer.weight_decay=0.1` has no effect: with merge=naive all stages are trained as the "
            "first. Try: stages.helpfulness.trainer.weight_decay=VALUE"
        ],
    ),
    "beta without any stage": (
        ["order=none", "beta=0.3"],
        ["`beta=0.3` has no effect: the chosen order has no stage. Try: order=helpful_first"],
    ),
    "no smoothing for exo_pair": (
        ["losses=[exo_pair]", "stages.safety.loss.label_smoothing=0"],
        ["`stages.safety.loss.label_smoothing` must lie between 0 and 0.5, but is 0."],
    ),
    "negative seed": (["seed=-1"], ["`seed` must be at least 0, but is -1."]),
    "a criterion evaluated twice": (
        ["evaluated=[safety,safety]"],
        ["`evaluated` must name one criterion or several, each once, but is ['safety', 'safety']."],
    ),
    "an unknown criterion evaluated": (
        ["evaluated=[safety,honesty]"],
        [
            "`evaluated` must name criteria that are known (helpfulness, safety), but has honesty. "
            "Try: +criterion@criteria.honesty=honesty"
        ],
    ),
    "one letter twice": (
        ["stages.helpfulness.criterion.letter=S"],
        [
            "`letter` must differ between criteria, but helpfulness and safety have S. "
            "Try: another one in conf/criterion"
        ],
    ),
    "a criterion under another name": (
        ["stages.helpfulness.criterion.name=honesty"],
        [
            "`stages.helpfulness.criterion.name` must be helpfulness, as its stage is called, but is honesty. A file "
            "of conf/criterion/ begins with `# @package stages.honesty`."
        ],
    ),
    "batch no multiple of processes": (
        ["hardware.processes=2", "stages.safety.global_batch_size=5"],
        [
            "`stages.safety.global_batch_size` = 5 can't be divided among `hardware.processes` = 2 with "
            "`hardware.per_device_train_batch_size` = 8. Try: stages.safety.global_batch_size=4 or 6"
        ],
    ),
    "KTO batch not divisible": (
        ["objective=dpo_then_kto", "base=none", "hardware.processes=2", "stages.safety.global_batch_size=3"],
        [
            "`stages.safety.global_batch_size` = 3 can't be divided among `hardware.processes` = 2 with "
            "`hardware.per_device_train_batch_size` = 8. Try: stages.safety.global_batch_size=4 or 6"
        ],
    ),
    "batch not divisible": (
        ["stages.helpfulness.global_batch_size=12", "hardware.per_device_train_batch_size=8"],
        [
            "`stages.helpfulness.global_batch_size` = 12 can't be divided among `hardware.processes` = 1 with "
            "`hardware.per_device_train_batch_size` = 8. Try: stages.helpfulness.global_batch_size=8 or 16"
        ],
    ),
    "KTO with one row per device": (
        ["objective=dpo_then_kto", "hardware.per_device_train_batch_size=1"],
        [
            "`stages.safety` uses KTO, which estimates its KL within the per-device batch and needs at least 2 rows in "
            "it, but has 1. Try: hardware.per_device_train_batch_size=2 stages.safety.global_batch_size=8"
        ],
    ),
    "KTO with a global batch of one": (
        ["objective=dpo_then_kto", "stages.safety.global_batch_size=1"],
        [
            "`stages.safety` uses KTO, which estimates its KL within the per-device batch and needs at least 2 rows in "
            "it, but has 1. Try: hardware.per_device_train_batch_size=2 stages.safety.global_batch_size=8"
        ],
    ),
    "merge ratio above 1": (["merge_ratio=7"], ["`merge_ratio` must lie between 0 and 1, but is 7."]),
    "merge of one stage": (
        ["order=helpful_only", "merge_ratio=0.5"],
        ["`merge_ratio` needs two stages, but the chosen order has one. Try: order=helpful_first"],
    ),
    "weights that do not sum to 1": (
        ["merge_weights=[0.5,0.6]"],
        ["`merge_weights` must be numbers from 0 to 1 that sum to 1, but [0.5, 0.6] sum to 1.1."],
    ),
    "a weight below 0": (
        ["merge_weights=[-0.5,1.5]"],
        ["`merge_weights` must be numbers from 0 to 1 that sum to 1, but [-0.5, 1.5] sum to 1."],
    ),
    "three weights for two policies": (
        ["merge_weights=[0.2,0.3,0.5]"],
        [
            "`merge_weights` has 3 numbers, but the order makes 2. Try: merge_weights=[0.5,0.5], one for each, "
            "which sum to 1"
        ],
    ),
    "weights of one stage": (
        ["order=helpful_only", "merge_weights=[1]"],
        ["`merge_weights` needs two stages, but the chosen order has one. Try: order=helpful_first"],
    ),
    "weights and a ratio": (
        ["merge_weights=[0.5,0.5]", "merge_ratio=0.5"],
        ["`merge_ratio` has no effect beside `merge_weights`. Give one of the two."],
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
        ["dataset@stages.safety.dataset=local", "stages.safety.dataset.path=/not/there.json"],
        [
            "`stages.safety.dataset.path` must be a file or folder, but /not/there.json is not there. "
            "Try: stages.safety.dataset.path=FILE.jsonl"
        ],
    ),
    "unknown word for policies": (
        ["policies=first"],
        [f"`policies` must be final, all or a list of {', '.join(POLICIES)}, but is 'first'."],
    ),
    "no policies": (
        ["policies=[]"],
        [f"`policies` must be final, all or a list of {', '.join(POLICIES)}, but is []."],
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
    "beta overruled": (
        ["beta=0.3", "stages.safety.beta=0.2"],
        ["`beta=0.3` has no effect: `stages.safety.beta=0.2` overrules it. Give one."],
    ),
    "beta overruled with one stage": (
        ["order=safety_only", "beta=0.3", "stages.safety.beta=0.2"],
        ["`beta=0.3` has no effect: `stages.safety.beta=0.2` overrules it. Give one."],
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
    "forced beta overruled": (["++beta=0.3", "stages.safety.beta=0.2"], "`beta=0.3` has no effect: "),
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
    found = problems_of(*overrides, "stages.sft.learning_rate=0", "model=local", "model.path=/not/there")
    assert [sentence.split("`")[1] for sentence in found] == [
        "beta",
        "merge_ratio",
        "dataset.max_rows",
        "stages.sft.learning_rate",
        "model.path",
        "policies",
        "hardware.zero_stage",
    ]


def test_a_folder_without_a_model_is_told_from_one_that_is_not_there(problems_of: Problems, tmp_path: Path) -> None:
    assert problems_of("model=local", f"model.path={tmp_path}") == [
        f"`model.path` must be the folder of a saved model, but {tmp_path} has no config.json."
    ]


REMEDIES = {
    "batch": ["stages.helpfulness.global_batch_size=12", "hardware.per_device_train_batch_size=8"],
    "KTO": ["objective=dpo_then_kto", "hardware.per_device_train_batch_size=1"],
    "KTO on eight devices": [
        "objective=dpo_then_kto",
        "optimization=paper",
        "hardware=a100x8",
        "stages.safety.global_batch_size=8",
    ],
    "one-stage merge": ["order=helpful_only", "merge_ratio=0.5"],
    "naive": ["merge=naive"],
    "sft": ["losses=[sft,dpo]"],
    "weights": ["merge_weights=[0.2,0.3,0.5]"],
}


@pytest.mark.parametrize("overrides", REMEDIES.values(), ids=list(REMEDIES))
def test_what_a_message_tells_to_try_helps(
    problems_of: Problems, configure: Callable[..., object], overrides: list[str]
) -> None:
    remedy = problems_of(*overrides)[0].split("Try: ")[1].split(" or ")[0].split(", ")[0].split()
    names = [override.split("=")[0] for override in remedy]
    configure(*(override for override in overrides if override.split("=")[0] not in names), *remedy)


ALLOWED = {
    "merge that is the first": ["merge_ratio=0"],
    "merge that is the second": ["merge_ratio=1"],
    "naive": ["merge=naive", "merge_ratio=0.5", "policies=[baseline,first,second,merged]"],
    "batch below the device's": ["stages.helpfulness.global_batch_size=4"],
    "KTO with two rows": ["objective=kto", "hardware.per_device_train_batch_size=2"],
    "one weight per policy": ["merge_weights=[0.25,0.75]"],
    "one letter twice, of which one is not used": [
        "order=safety_only",
        "evaluated=[safety]",
        "stages.safety.criterion.letter=H",
    ],
    "own beta and data of a naive merge": [
        *("merge=naive", "merge_ratio=0.5", "stages.safety.beta=0.2", "stages.helpfulness.learning_rate=1e-4"),
        "dataset@stages.safety.dataset=demo",
    ],
    "no KL": ["generation.kl_prompts=0"],
    "other first beta": ["stages.helpfulness.beta=0.3"],
    "the same beta twice": ["beta=0.3", "stages.safety.beta=0.3"],
    "all prompts": ["prompts.limit=null"],
    "second stage with data of its own": ["dataset@stages.safety.dataset=demo", "stages.safety.dataset.max_rows=9"],
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
