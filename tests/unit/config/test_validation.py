"""Every bound of a number and every rule beyond types: the setting that its sentence names, and the reason."""

import sys
from pathlib import Path
from typing import Any

import pytest

from sacpo_exp.config.bounds import find_bound_problems
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.errors import ConfigError
from sacpo_exp.method.losses import LOSSES
from sacpo_exp.pipeline import open_run
from sacpo_exp.reporting.planning import check_run

BATCH, SMOOTHING = "stages.safety.global_batch_size", "stages.helpfulness.loss.label_smoothing"
DECAY, OWN_PATH = "stages.safety.trainer.weight_decay", "stages.safety.dataset.path"
#: Overrides of `train`, the setting that the sentence names, and words of the reason.
FLASH, SHARED = "hardware.attention=flash_attention_2", "generation.tensor_parallel_size"
WRONG: dict[str, tuple[str, str, str]] = {
    "sft as a preference loss": ("losses=[sft,dpo]", "stages.helpfulness.loss.name", "must read preferences"),
    "preference loss as base": ("stages.sft.loss.name=dpo", "stages.sft.loss.name", "must be sft"),
    "unknown loss": ("losses=[sigmod]", "losses", f"must be of {', '.join(LOSSES)}"),
    "no loss": ("losses=[]", "losses", "is empty"),
    "not read": (f"{SMOOTHING}=0.1", f"{SMOOTHING}=0.1", "dpo does not read it, but exo_pair, robust do"),
    "criterion evaluated twice": ("evaluated=[safety,safety]", "evaluated", "each once"),
    "unknown criterion": ("evaluated=[safety,honesty]", "evaluated", "has honesty"),
    "one letter twice": ("stages.helpfulness.criterion.letter=S", "letter", "helpfulness and safety have S"),
    "another name": ("stages.safety.criterion.name=x", "stages.safety.criterion.name", "must be safety"),
    "batch and processes": (f"hardware.processes=2 {BATCH}=5", BATCH, "can't be divided among"),
    "batch and rows": (f"hardware=cpu {BATCH}=12", BATCH, f"Try: {BATCH}=8 or 16"),
    "KTO": ("objective=dpo_then_kto hardware.per_device_train_batch_size=1", "stages.safety", "needs at least 2 rows"),
    "merge of one stage": ("order=helpful_only merge_ratio=0.5", "merge_ratio", "needs two stages"),
    "weights that do not sum to 1": ("merge_weights=[0.5,0.6]", "merge_weights", "sum to 1.1"),
    "too many weights": ("merge_weights=[0.2,0.3,0.5]", "merge_weights", "gives 3 weights"),
    "weights and a ratio": ("merge_weights=[0.5,0.5] merge_ratio=0.5", "merge_ratio", "has no effect"),
    "naive without ratio": ("merge=naive", "merge=naive", "needs a ratio"),
    "other model twice": ("others=[a/same,b/same]", "others", "has same twice"),
    "other model that is none": ("others=[nowhere]", "others", "has nowhere"),
    "model path": ("model=local model.path=/not/there", "model.path", "/not/there does not exist"),
    "encoder path": ("model@judge.encoder=local judge.encoder.path=/tmp", "judge.encoder.path", "no config.json"),
    "scratch without shape": ("model=nano model.shape=null", "model.shape", "must give the shape"),
    "width of heads": ("model=tiny model.shape.hidden_size=12", "model.shape.hidden_size", "multiple of twice"),
    "shared keys": ("model=tiny model.shape.num_key_value_heads=3", "model.shape.num_key_value_heads", "must divide"),
    "vocabulary": ("model=tiny model.shape.vocab_size=10", "model.shape.vocab_size", "at least 259"),
    "template": ("model=tiny model.chat_template='{%'", "model.chat_template", "must be a Jinja template"),
    "dataset path": ("dataset=local dataset.path=/not/there", "dataset.path", "/not/there does not exist"),
    "data of a stage": (f"dataset@stages.safety.dataset=local {OWN_PATH}=/not/there", OWN_PATH, "does not exist"),
    "data made of the run's": ("experiment=real/cells/helpful_first", "dataset.path", "null does not exist"),
    "prompt too long": ("optimization.max_prompt_length=128", "optimization.max_prompt_length", "must be less than"),
    "policies": ("policies=first", "policies", "must be final, all or a list"),
    "unknown policy": ("policies=[first,third]", "policies", "(baseline, first, second), but has 'third'"),
    "beta without any stage": ("order=none beta=0.3", "beta=0.3", "has no effect"),
    "earlier beta of one stage": ("order=helpful_only earlier_betas=[0.3]", "earlier_betas=[0.3]", "has no effect"),
    "beta overruled": ("beta=0.3 stages.safety.beta=0.2", "beta=0.3", "overrules it"),
    "naive number": (f"merge=naive merge_ratio=0.5 {DECAY}=0.1", f"{DECAY}=0.1", "Try: stages.helpfulness.trainer"),
    "nodes": ("hardware.nodes=2", "hardware.processes", "must be a multiple"),
    "offload without ZeRO": ("hardware.offload_optimizer=cpu", "hardware.offload_optimizer=cpu", "needs ZeRO stage 1"),
    "attention": ("hardware.attention=flash", "hardware.attention", "OWNER/NAME on the hub, but is flash"),
    "attention of GPUs": (f"hardware=cpu {FLASH} optimization.autocast=bfloat16", FLASH, "needs a GPU"),
    "attention in float32": (f"hardware=a100x1 {FLASH} optimization.autocast=null", FLASH, "numbers of 16 bits only"),
    "engines": (f"generation.engine=vllm hardware=cpu_x2 {SHARED}=3", SHARED, "must divide the 2 devices"),
    "no adapted layers": ("adapter=lora adapter.target_modules=[]", "adapter.target_modules", "list of layers"),
    "adapted head": ("adapter=lora adapter.target_modules=[lm_head]", "adapter.target_modules", "has lm_head"),
    "quantised": ("adapter=qlora hardware=cpu_x2 hardware.zero_stage=3", "hardware.zero_stage=3", "can't shard"),
    "offloaded without a float32 copy": (
        "optimization=paper_bf16 hardware.zero_stage=3 hardware.offload_optimizer=cpu",
        "optimization.float32_copy=false",
        "needs optimization.dtype=bfloat16 optimization.autocast=null adapter=none hardware.offload_optimizer=none",
    ),
    "mirror": ("store.mirror=somewhere", "store.mirror", "must be an address"),
}
ACCEPTABLE, PAIRING = "stages.helpfulness.criterion.acceptable", "stages.helpfulness.criterion.pairing=acceptable_first"
#: What losses read.
WRONG |= {
    "SafeDPO": ("losses=[safedpo]", ACCEPTABLE, "SafeDPO needs"),
    "pairing": (f"order=helpful_only {PAIRING}", PAIRING, f"needs `{ACCEPTABLE}`"),
    "PeCAN": ("criterion=[mixed] losses=[pecan]", "stages.mixed", "learns from the stages before it"),
}
RATE, DECAY_OF_ALL = "stages.helpfulness.learning_rate", "optimization.weight_decay"
#: Numbers outside their bounds.
WRONG |= {
    "beta": ("beta=-1", "beta", "greater than 0, but is -1"),
    "earlier beta": ("earlier_betas=[0]", "earlier_betas[0]", "greater than 0, but is 0"),
    "long seed": ("seed=12345678901234567890", "seed", "at least 0 and at most"),
    "infinite rate": (f"{RATE}=inf", RATE, "greater than 0 and finite, but is inf"),
    "smoothing": (f"losses=[robust] {SMOOTHING}=0.5", SMOOTHING, "greater than 0 and below 0.5"),
    "no number": (f"{DECAY_OF_ALL}=nan", DECAY_OF_ALL, "finite, but is nan"),
    "whole fraction": (
        "dataset.heldout_fraction=1",
        "dataset.heldout_fraction",
        "greater than 0 and below 1, but is 1",
    ),
}
#: The same for `eval`.
WRONG_EVALUATION: dict[str, tuple[str, str, str]] = {
    "scores": ("judge=paper judge.max_score=1", "judge.max_score", "must be greater than `judge.min_score`"),
    "address": ("judge=local judge.base_url=localhost:8000", "judge.base_url", "must begin with http"),
    "half a price": ("judge=openai judge.price.input=1", "judge.price", "Try: judge.price.output="),
    "prompts without a file": ("prompts=xstest", "prompts.path", "nothing is given"),
    "prompts of the hub": ("prompts=hub", "prompts.path", "is null. Try: prompts.path=OWNER/NAME"),
    "prompts": ("prompts=sacpo prompts.safety_path=/not/there", "prompts.safety_path", "does not exist"),
    "responses": ("responses=[/not/there.json] baseline=there", "responses", "does not exist"),
    "baseline without responses": ("baseline=first", "baseline=first", "has no effect"),
    "one file": ("responses=[/etc/hostname] baseline=hostname matches=all_pairs", "responses", "names one"),
}
THREE = "criteria=[helpfulness,safety,honesty] multiplier=[2,1.5] orders=[[honesty,helpfulness,safety]]"
#: The same for `oracle`.
WRONG_ORACLE: dict[str, tuple[str, str, str]] = {
    "merges of three": (f"{THREE} ratios=[0.5]", "ratios", ""),
    "responses for three": (f"{THREE} ratios=[] world.responses=3", "world.responses", ""),
    "one criterion": ("criteria=[helpfulness]", "criteria", "at least one constraint"),
    "orders": ("orders=[[safety,helpfulness],[safety]]", "orders[1]", "but is [safety]"),
    "no orders": ("orders=[]", "orders", "is empty"),
    "loss": ("losses=[dpo,sft]", "losses", "has sft"),
    "nothing": ("losses=[] methods=[]", "losses", "both are empty"),
    "multipliers": ("multiplier=[1,2]", "multiplier", "one value per constraint (safety)"),
    "own key": ("+train.beta=0.1", "train.beta", "the oracle sets it itself"),
    "own key of a stage": ("+train.stages.safety.num_train_epochs=3", "train.stages.safety.num_train_epochs", "itself"),
    "unknown stage": ("+train.stages.first.learning_rate=0.1", "train.stages.first", "one of the stages"),
}
#: The same for `choose threshold=0.6`.
WRONG_CHOICE: dict[str, tuple[str, str, str]] = {
    "no family": ("grid=[0.5]", "grid", "has 1. Try: grid=[0.25,0.5,0.75,1]"),
    "a policy twice": ("grid=[0.5,1,0.5]", "grid", "every entry once"),
    "no number": ("grid=[0.5,a]", "grid", "between 0 and 1 with over=merge_ratio, but has a"),
    "no strength": ("over=beta grid=[-1,2]", "grid", "greater than 0 with over=beta, but has -1"),
    "idle score": ("acceptable_score=7", "acceptable_score", "no effect with measure=win_rate"),
    "no zero": ("measure=acceptable_rate judge=openai", "acceptable_score", "judge=openai has no zero"),
    "further threshold": ("++thresholds={helpfulness:2}", "thresholds.helpfulness", "between 0 and 1, but is 2"),
    "constraint twice": ("++thresholds={safety:0.5}", "thresholds", "other criteria than `constraint` = safety"),
    "one stage": ("order=helpful_only", "over=merge_ratio", "needs two stages"),
    "ratio beside the grid": ("merge_ratio=0.5", "merge_ratio", "over=merge_ratio selects the policies"),
    "beta beside the grid": ("over=beta beta=0.05", "beta", "over=beta selects the policies"),
}
ALL = {
    **{name: ("train", *case) for name, case in WRONG.items()},
    **{name: ("eval", *case) for name, case in WRONG_EVALUATION.items()},
    **{name: ("oracle", *case) for name, case in WRONG_ORACLE.items()},
    **{name: ("choose", f"threshold=0.6 {case[0]}", *case[1:]) for name, case in WRONG_CHOICE.items()},
    "no threshold": ("choose", "", "threshold", "has no value"),
    "confidence": ("report", "confidence=95", "confidence", "below 1"),
    "number in a list": ("oracle", "pairs=[100,0]", "pairs[1]", "at least 1"),
    "constraint": ("multiplier", "threshold=1 constraint=honesty", "constraint", "of the stages' criteria"),
    "vllm": ("chat", "generation.engine=vllm", "generation.engine=vllm", "answers in batches, chat one by one"),
}


@pytest.mark.parametrize(("command", "overrides", "setting", "reason"), ALL.values(), ids=list(ALL))
def test_a_broken_rule_is_told(problems_of: Any, command: str, overrides: str, setting: str, reason: str) -> None:
    (problem,) = problems_of(*overrides.split(), command=command)
    assert f"`{setting}`" in problem
    assert reason in problem


def test_all_problems_are_reported_together(problems_of: Any) -> None:
    overrides = ["beta=-1", "merge_ratio=7", "policies=[]", "model=local", "model.path=/not/there"]
    found = problems_of(*overrides, "stages.sft.learning_rate=0")
    assert {sentence.split("`")[1] for sentence in found} == {
        *("beta", "merge_ratio", "stages.sft.learning_rate", "model.path", "policies")
    }


TOGETHER = {
    "judge=openai": ["repeats=0", "temperature=3", "timeout=0", "budget_usd=0", "price.input=-1", "price.output=-1"],
    "adapter=lora": ["r=0", "lora_alpha=-1", "lora_dropout=1"],
    "hardware=auto": ["per_device_train_batch_size=100000000000000", "processes=0"],
}


@pytest.mark.parametrize("group", TOGETHER)
def test_several_numbers_are_reported_together(problems_of: Any, group: str) -> None:
    overrides = [f"{group.split('=')[0]}.{override}" for override in TOGETHER[group]]
    keys = {problem.split("`")[1] for problem in problems_of(group, *overrides)}
    assert keys == {override.split("=")[0] for override in overrides}


def test_a_typed_configuration_is_checked_as_a_composed_one(configure: Any) -> None:
    config = configure("model=tiny", "judge=openai")
    assert find_bound_problems(config, RunConfig) == []
    config.model.shape.vocab_size = config.stages["helpfulness"].global_batch_size = 0
    config.earlier_betas = [0.1, -1.0]
    keys = {problem.split("`")[1] for problem in find_bound_problems(config, RunConfig)}
    assert keys == {"earlier_betas[1]", "model.shape.vocab_size", "stages.helpfulness.global_batch_size"}


REMEDIES = {
    "batch": ["hardware=cpu", "stages.helpfulness.global_batch_size=12"],
    "naive": ["merge=naive"],
    "weights": ["merge_weights=[0.2,0.3,0.5]"],
}


@pytest.mark.parametrize("overrides", REMEDIES.values(), ids=list(REMEDIES))
def test_a_suggestion_helps(problems_of: Any, configure: Any, overrides: list[str]) -> None:
    remedy = problems_of(*overrides)[0].split("Try: ")[1].split(" or ")[0].split(", ")[0].split()
    names = [override.split("=")[0] for override in remedy]
    configure(*(override for override in overrides if override.split("=")[0] not in names), *remedy)


ALLOWED = {
    "naive": ["merge=naive", "merge_ratio=0.5", "policies=[baseline,first,second,merged]"],
    "one letter twice, one unused": ["order=safety_only", "evaluated=[safety]", "stages.safety.criterion.letter=H"],
    "own beta of a naive merge": ["merge=naive", "merge_ratio=0.5", "stages.safety.beta=0.2"],
    "a template with marks": ["model.chat_template='{% generation %}{{ messages }}{% endgeneration %}'"],
}


@pytest.mark.parametrize("overrides", ALLOWED.values(), ids=list(ALLOWED))
def test_sound_settings_pass(configure: Any, overrides: list[str]) -> None:
    configure(*overrides)


def test_a_chat_template_is_needed(configure: Any, problems_of: Any, model_folder: Path) -> None:
    given = ("model=local", f"model.path={model_folder}")
    (model_folder / "tokenizer_config.json").write_text("{}")
    (problem,) = problems_of(*given)
    assert problem.startswith(f"{model_folder} has no chat template. Try: ")
    configure(*given, "model.chat_template='{{ messages }}'")
    (model_folder / "chat_template.jinja").write_text("{{ messages }}")
    configure(*given)


def test_qlora_needs_bitsandbytes(configure: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as if it were not installed
    with pytest.raises(ConfigError, match=r"which is not installed\. Try: pip install bitsandbytes=="):
        check_run(open_run(configure("model=tiny", "adapter=qlora", f"paths.outputs={tmp_path}")))


#: Overrides of `choose`, and whether its policies are tested in sequence from a safe end.
SEQUENCES = {
    "": True,
    "over=beta": True,
    "max_over_refusal=0.1": False,  # which is worst at the safe end
    "++thresholds={helpfulness:0.4}": False,  # which pulls from the other end
    "constraint=helpfulness maximise=safety": True,
    "procedure=holm": False,
    "max_over_refusal=0.1 procedure=fixed_sequence": True,
}


def test_a_sequence_needs_a_safe_end(configure: Any) -> None:
    for overrides, is_sequence in SEQUENCES.items():
        assert configure("threshold=0.6", *overrides.split(), command="choose").is_sequence is is_sequence
