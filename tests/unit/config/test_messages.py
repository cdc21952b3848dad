"""What Hydra and OmegaConf complain about, in our words."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import MissingConfigException

from sacpo_exp.config.loading import CONF
from sacpo_exp.config.messages import explain_no_effect, explain_unknown_key, known_keys, translated_errors
from sacpo_exp.config.schema import ReportConfig, RunConfig
from sacpo_exp.errors import ConfigError

Problems = Callable[..., list[str]]


def options(group: str) -> str:
    return ", ".join(sorted(path.stem for path in (CONF / group).glob("*.yaml")))


WRONG_OPTION = {
    "near": ("model=smollm2_135n", "model", "smollm2_135n", " Did you mean `smollm2_135m`?"),
    "far": ("order=zigzag", "order", "zigzag", ""),
    "of a stage": ("loss@stages.second.loss=ktoo", "loss", "ktoo", " Did you mean `kto`?"),
}


@pytest.mark.parametrize(("override", "group", "option", "hint"), WRONG_OPTION.values(), ids=list(WRONG_OPTION))
def test_a_misspelt_option_gets_the_list_and_the_nearest(
    problems_of: Problems, override: str, group: str, option: str, hint: str
) -> None:
    assert problems_of(override) == [f"`{group}` has no option `{option}`; it has {options(group)}.{hint}"]


WRONG_KEY = {
    "group": ("objektive=kto", "`objektive` is not a setting. Did you mean `objective`?"),
    "key": ("betta=0.1", "`betta` is not a setting. Did you mean `beta`?"),
    "inner key": ("stages.second.bta=1", "`stages.second.bta` is not a setting. Did you mean `stages.second.beta`?"),
    "stage": ("stages.secnd.beta=1", "`stages.secnd.beta` is not a setting. Did you mean `stages.second.beta`?"),
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
    "inner choice": (
        "stages.second.criterion=safty",
        "`stages.second.criterion` can't be safty: it must be one of helpfulness, safety.",
    ),
    "nothing": ("beta=", "`beta` can't be empty: it must be a number."),
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


WITHOUT_EFFECT = {
    "second stage": (["order=helpful_only"], "stages.second.beta=0.3"),
    "inside the second stage": (["order=safety_only"], "stages.second.loss.label_smoothing=0.1"),
    "base stage": (["base=none"], "stages.base.learning_rate=1"),
    "tracker": ([], "tracker.wandb.project=mine"),
}


@pytest.mark.parametrize(("choices", "override"), WITHOUT_EFFECT.values(), ids=list(WITHOUT_EFFECT))
def test_a_key_below_a_part_that_is_not_chosen_has_no_effect(
    problems_of: Problems, monkeypatch: pytest.MonkeyPatch, choices: list[str], override: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["train", *choices, override])
    assert problems_of(*choices, override) == [explain_no_effect(override)]


def test_the_words_for_settings_without_effect() -> None:
    overrides = ["stages.second.beta=1", "stages.base.beta=1", "tracker.wandb.mode=1"]
    assert [explain_no_effect(override) for override in overrides] == [
        "`stages.second.beta=1` has no effect: the chosen order has one stage. Try: order=helpful_first",
        "`stages.base.beta=1` has no effect: there is no base stage with base=none. Try: base=sft",
        "`tracker.wandb.mode=1` has no effect: that part is not chosen.",
    ]


def test_no_message_carries_hydra_s_hints(problems_of: Problems) -> None:
    for overrides in (["betta=1"], ["beta=x"], ["model=none"], ["beta"], ["+beta=0.2"], ["~stages.second"]):
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
        if not hasattr(value, "__dataclass_fields__"):
            return [prefix]
        return [key for name in vars(value) for key in flatten(getattr(value, name), f"{prefix}.{name}".lstrip("."))]

    assert set(flatten(configure("model=nano", "tracker=wandb"))) <= set(known_keys(RunConfig))
    assert set(flatten(configure(command="report"))) <= set(known_keys(ReportConfig))


def test_a_report_knows_its_own_keys_only(problems_of: Problems) -> None:
    assert problems_of("+beta=1", command="report")[0].startswith("`beta` is not a setting.")
    assert explain_unknown_key("confidense", ReportConfig) == (
        "`confidense` is not a setting. Did you mean `confidence`?"
    )
