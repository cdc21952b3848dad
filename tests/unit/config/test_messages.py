"""What Hydra and OmegaConf complain about, in our words."""

import sys
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import MissingConfigException

from sacpo_exp.config.loading import CONF
from sacpo_exp.config.messages import explain_unknown_key, known_keys, translated_errors
from sacpo_exp.config.schema import ReportConfig, RunConfig
from sacpo_exp.errors import ConfigError

Problems = Callable[..., list[str]]


def options(group: str) -> str:
    return ", ".join(sorted(path.stem for path in (CONF / group).glob("*.yaml")))


WRONG_OPTION = {
    "near": ("model=smollm2_135n", "model", "smollm2_135n", " Did you mean `smollm2_135m`?"),
    "far": ("order=zigzag", "order", "zigzag", ""),
    "of a stage": ("dataset@stages.safety.dataset=demmo", "dataset", "demmo", " Did you mean `demo`?"),
}


@pytest.mark.parametrize(("override", "group", "option", "hint"), WRONG_OPTION.values(), ids=list(WRONG_OPTION))
def test_a_misspelt_option_gets_the_list_and_the_nearest(
    problems_of: Problems, override: str, group: str, option: str, hint: str
) -> None:
    assert problems_of(override) == [f"`{group}` has no option `{option}`; it has {options(group)}.{hint}"]


WRONG_KEY = {
    "group": ("objektive=kto", "`objektive` is not a setting. Did you mean `objective`?"),
    "key": ("betta=0.1", "`betta` is not a setting. Did you mean `beta`?"),
    "inner key": ("stages.safety.bta=1", "`stages.safety.bta` is not a setting. Did you mean `stages.safety.beta`?"),
    "of a mapping": (
        "stage_defaults.first.learning_rat=1",
        "`stage_defaults.first.learning_rat` is not a setting. Did you mean `stage_defaults.first.learning_rate`?",
    ),
    "group in no place": (
        "zzz@stages.safety.zzz=1",
        "`zzz@stages.safety.zzz` is not a setting. `--cfg job` lists all keys.",
    ),
    "old place": ("max_new_tokens=9", "`max_new_tokens` is not a setting. Did you mean `generation.max_new_tokens`?"),
    "nothing like it": ("zzz=1", "`zzz` is not a setting. `--cfg job` lists all keys."),
    "added": ("+key=1", "`key` is not a setting. `--cfg job` lists all keys."),
    "added near a key": ("+betta=1", "`betta` is not a setting. Did you mean `beta`?"),
    "added inside": (
        "+hardware.zero_stages=3",
        "`hardware.zero_stages` is not a setting. Did you mean `hardware.zero_stage`?",
    ),
    "forced": ("++betta=1", "`betta` is not a setting. Did you mean `beta`?"),
}


@pytest.mark.parametrize(("override", "sentence"), WRONG_KEY.values(), ids=list(WRONG_KEY))
def test_a_key_that_does_not_exist_gets_the_nearest(problems_of: Problems, override: str, sentence: str) -> None:
    assert problems_of(override) == [sentence]


def test_several_added_keys_are_reported_together(problems_of: Problems) -> None:
    assert problems_of("+betta=1", "+zzz=2") == [
        "`betta` is not a setting. Did you mean `beta`?",
        "`zzz` is not a setting. `--cfg job` lists all keys.",
    ]


WRONG_VALUE = {
    "number": ("beta=high", "`beta` can't be high: it must be a number."),
    "whole number": ("seed=1.5", "`seed` can't be 1.5: it must be a whole number."),
    "yes or no": ("dry_run=perhaps", "`dry_run` can't be perhaps: it must be true or false."),
    "choice": ("merge=linaer", "`merge` can't be linaer: it must be one of linear, naive."),
    "nothing": ("beta=", "`beta` can't be empty: it must be a number."),
    "no list": ("losses=dpo", "`losses` can't be dpo: it must be a list, as [a,b]."),
    "optional number": ("merge_ratio=half", "`merge_ratio` can't be half: it must be a number."),
}


@pytest.mark.parametrize(("override", "sentence"), WRONG_VALUE.values(), ids=list(WRONG_VALUE))
def test_a_value_of_the_wrong_kind_is_told_what_it_must_be(problems_of: Problems, override: str, sentence: str) -> None:
    assert problems_of(override) == [sentence]


def test_a_value_that_was_left_open_is_asked_for(problems_of: Problems) -> None:
    assert problems_of("seed=???") == ["`seed` has no value. Try: seed=..."]


UNREADABLE = {
    "no equals sign": (
        "beta",
        "`beta` can't be read as an override (missing EQUAL at '<EOF>'). Try: key=value, without spaces.",
    ),
    "open bracket": (
        "policies=[first",
        "an override can't be read: no viable alternative at input '[first'. Quote brackets and commas: 'key=[a,b]'.",
    ),
}


@pytest.mark.parametrize(("override", "sentence"), UNREADABLE.values(), ids=list(UNREADABLE))
def test_an_override_that_is_none_is_quoted(problems_of: Problems, override: str, sentence: str) -> None:
    assert problems_of(override) == [sentence]


ORDER = "Try: order=helpful_first, or"
NOT_THERE = "has no effect: the chosen order has no stage for"
WITHOUT_EFFECT = {
    "stage": (
        ["order=helpful_only"],
        "stages.safety.beta=0.3",
        f"{NOT_THERE} safety. {ORDER} safety in criterion=[...]",
    ),
    "inside a stage": (
        ["order=none"],
        "stages.safety.loss.label_smoothing=0.1",
        f"{NOT_THERE} safety. {ORDER} safety in criterion=[...]",
    ),
    "criterion of the user's": (
        [],
        "stages.honesty.beta=1",
        f"{NOT_THERE} honesty. {ORDER} honesty in criterion=[...]",
    ),
    "misspelt stage": ([], "stages.safty.beta=1", f"{NOT_THERE} safty. Did you mean `stages.safety`?"),
    "trainer argument": (
        ["order=helpful_only"],
        "stages.safety.trainer.weight_decay=0.1",
        f"{NOT_THERE} safety. {ORDER} safety in criterion=[...]",
    ),
    "data of a stage": (
        ["order=helpful_only"],
        "dataset@stages.safety.dataset=demo",
        f"{NOT_THERE} safety. {ORDER} safety in criterion=[...]",
    ),
    "supervised fine-tuning": (
        ["base=none"],
        "stages.sft.learning_rate=1",
        "has no effect: there is no such stage with base=none. Try: base=sft",
    ),
    "argument of supervised fine-tuning": (
        ["base=none"],
        "stages.sft.trainer.weight_decay=0.1",
        "has no effect: there is no such stage with base=none. Try: base=sft",
    ),
    "data that a stage has not": (
        [],
        "stages.safety.dataset.max_rows=9",
        "has no effect: there is no `stages.safety.dataset`. Try: dataset@stages.safety.dataset=NAME",
    ),
    "tracker": ([], "tracker.wandb.project=mine", "has no effect: that part is not chosen."),
}


@pytest.mark.parametrize(("choices", "override", "words"), WITHOUT_EFFECT.values(), ids=list(WITHOUT_EFFECT))
def test_a_key_below_a_part_that_is_not_chosen_has_no_effect(
    problems_of: Problems, monkeypatch: pytest.MonkeyPatch, choices: list[str], override: str, words: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["train", *choices, override])
    assert problems_of(*choices, override) == [f"`{override}` {words}"]


#: Overrides of the previous version, with what replaces them.
OLD = {
    "loss=kto": "losses=[NAME,NAME], one for each stage in order",
    "loss.label_smoothing=0.1": "stages.CRITERION.loss.label_smoothing",
    "loss@stages.first.loss=kto": "losses=[NAME,NAME], one for each stage in order",
    "loss@stages.base.loss=sft": "base=sft, which has no other loss",
    "stages.safety.loss.loss_type=ipo": "stages.safety.loss.name=NAME",
    "stages.first.loss.loss_type=ipo": "losses=[NAME,NAME], one for each stage in order",
    "stages.first.loss.label_smoothing=0.1": "stages.CRITERION.loss.label_smoothing",
    "stages.first.beta=1": "stages.CRITERION.beta=VALUE, or earlier_betas=[VALUE] for whichever stage comes first",
    "stages.second.beta=1": "stages.CRITERION.beta=VALUE, or beta=VALUE for whichever stage comes last",
    "++stages.second.beta=1": "stages.CRITERION.beta=VALUE, or beta=VALUE for whichever stage comes last",
    "stages.second.criterion=safety": "order=NAME, or criterion=[NAME,NAME]",
    "stages.first.learning_rate=1": (
        "stages.CRITERION.learning_rate=VALUE, or stage_defaults.first.learning_rate=VALUE for whichever stage comes "
        "first"
    ),
    "stages.base.learning_rate=1": "stages.sft.learning_rate",
    "dataset@stages.second.dataset=demo": "dataset@stages.CRITERION.dataset",
    "dataset@stages.base.dataset=demo": "dataset@stages.sft.dataset",
    "dataset.only_mixed_safety_pairs=true": "dataset.only_mixed_pairs",
}


@pytest.mark.parametrize("override", OLD)
def test_a_key_of_the_previous_version_is_told_what_replaces_it(problems_of: Problems, override: str) -> None:
    key = override.lstrip("+").split("=")[0]
    assert problems_of(override) == [f"`{key}` has another name now. Try: {OLD[override]}"]


def test_the_judge_s_models_have_another_place(problems_of: Problems) -> None:
    assert problems_of("judge=reward_model", "judge.cost.higher_is=better") == [
        "`judge.cost.higher_is` has another name now. Try: judge.heads.CRITERION.higher_is"
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("stages: {first: {beta: 0.3}}", "`stages.first` has another name now. Try: stages.CRITERION"),
        (
            "stages: {safety: {loss: {loss_type: ipo}}}",
            "experiment/mine.yaml: `stages.safety.loss.loss_type` has another name now. "
            "Try: stages.safety.loss.name=NAME",
        ),
        (
            "stages: {safety: {bta: 1}}",
            "experiment/mine.yaml: `stages.safety.bta` is not a setting. Did you mean `stages.safety.beta`?",
        ),
        (
            "stages: {safety: {beta: high}}",
            "experiment/mine.yaml: `stages.safety.beta` has a wrong value: it must be a number.",
        ),
    ],
)
def test_a_file_with_wrong_keys_is_told_as_the_command_line(
    problems_of: Problems, tmp_path: Path, content: str, sentence: str
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{content}\n", "utf-8")
    assert problems_of(f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine") == [sentence]


def test_no_message_carries_hydra_s_hints(problems_of: Problems) -> None:
    for overrides in (["betta=1"], ["beta=x"], ["model=none"], ["beta"], ["+beta=0.2"], ["~beta"]):
        for sentence in problems_of(*overrides):
            assert "+betta" not in sentence
            assert "https://" not in sentence
            assert "\n" not in sentence


def test_an_assertion_that_is_not_about_a_null_is_left_alone() -> None:
    with pytest.raises(AssertionError, match="ours"), translated_errors(CONF, "train"):
        raise AssertionError("ours")


def test_errors_of_ours_pass_as_they_are() -> None:
    with pytest.raises(ConfigError, match=r"^ours$"), translated_errors(CONF, "train"):
        raise ConfigError("ours")


def test_a_group_without_options_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught, translated_errors(tmp_path, "train"):
        raise MissingConfigException("Could not find 'experiment/mine'", "experiment/mine")
    assert caught.value.problems == ["`experiment` has no option `mine`; it has none yet."]


def test_every_composed_key_is_a_known_one(configure: Callable[..., Any]) -> None:
    def flatten(value: Any, prefix: str = "") -> list[str]:
        if value and isinstance(value, dict) and all(is_dataclass(entry) for entry in value.values()):
            return [key for entry in value.values() for key in flatten(entry, f"{prefix}.NAME")]
        if not is_dataclass(value):
            return [prefix]
        return [key for name in vars(value) for key in flatten(getattr(value, name), f"{prefix}.{name}".lstrip("."))]

    assert set(flatten(configure("model=nano", "tracker=wandb"))) <= set(known_keys(RunConfig))
    assert set(flatten(configure(command="report"))) <= set(known_keys(ReportConfig))


def test_a_report_knows_its_own_keys_only(problems_of: Problems) -> None:
    assert problems_of("+beta=1", command="report")[0].startswith("`beta` is not a setting.")
    assert explain_unknown_key("confidense", ReportConfig) == (
        "`confidense` is not a setting. Did you mean `confidence`?"
    )
