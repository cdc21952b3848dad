"""Errors of Hydra and OmegaConf in our words."""

import sys
from pathlib import Path
from typing import Any

import pytest

from sacpo_exp.config.loading import CONF
from sacpo_exp.config.messages import translated_errors
from sacpo_exp.errors import ConfigError

MODELS = ", ".join(sorted(path.stem for path in (CONF / "model").glob("*.yaml")))
NOT_THERE = "has no effect: the chosen order has no stage for"
#: Overrides, the last of which is wrong, and the sentence about it; its beginning where it ends with `…`.
WRONG = {
    "option": ("model=nanno", f"`model` has no option `nanno`; it has {MODELS}. Did you mean `nano`?"),
    "group": ("objektive=kto", "`objektive` is not a setting. Did you mean `objective`?"),
    "inner key": ("stages.safety.bta=1", "`stages.safety.bta` is not a setting. Did you mean `stages.safety.beta`?"),
    "key in the wrong place": ("max_new_tokens=9", "`max_new_tokens` is not a setting. Did you mean `generation.max_…"),
    "nothing like it": ("zzz=1", "`zzz` is not a setting. `--cfg job` lists all keys."),
    "added": ("+betta=1", "`betta` is not a setting. Did you mean `beta`?"),
    "number": ("beta=high", "`beta` can't be high: it must be a number."),
    "yes or no": ("dry_run=perhaps", "`dry_run` can't be perhaps: it must be true or false."),
    "choice": ("merge=linaer", "`merge` can't be linaer: it must be one of linear, naive."),
    "nothing": ("beta=", "`beta` can't be empty: it must be a number."),
    "no list": ("losses=dpo", "`losses` can't be dpo: it must be a list, as [a,b]."),
    "left open": ("seed=???", "`seed` has no value. Try: seed=..."),
    "no equals sign": ("beta", "an override can't be read: Error parsing override 'beta' missing EQUAL at…"),
    "stage": (
        "order=helpful_only stages.safety.beta=0.3",
        f"`stages.safety.beta=0.3` {NOT_THERE} safety. Try: order=helpful_first, or safety in criterion=[...]",
    ),
    "misspelt stage": ("stages.safty.beta=1", f"`stages.safty.beta=1` {NOT_THERE} safty. Did you mean…"),
    "supervised fine-tuning": (
        "base=none stages.sft.trainer.weight_decay=0.1",
        "`stages.sft.trainer.weight_decay=0.1` has no effect: there is no such stage with base=none. Try: base=sft",
    ),
    "data that it lacks": ("stages.safety.dataset.max_rows=9", "`stages.safety.dataset.max_rows=9` has no effect…"),
}


@pytest.mark.parametrize(("overrides", "sentence"), WRONG.values(), ids=list(WRONG))
def test_one_sentence(problems_of: Any, monkeypatch: pytest.MonkeyPatch, overrides: str, sentence: str) -> None:
    monkeypatch.setattr(sys, "argv", ["train", *overrides.split()])
    (found,) = problems_of(*overrides.split())
    assert found.startswith(sentence.removesuffix("…"))
    assert sentence.endswith("…") or found == sentence
    assert "https://" not in found


def test_several_added_keys_are_reported_together(problems_of: Any) -> None:
    assert [sentence.split("`")[1] for sentence in problems_of("+betta=1", "+zzz=2")] == ["betta", "zzz"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("bta: 1", "experiment/mine.yaml: `stages.safety.bta` is not a setting. Did you mean `stages.safety.beta`?"),
        ("beta: high", "experiment/mine.yaml: `stages.safety.beta` has a wrong value: it must be a number."),
    ],
)
def test_a_mistake_in_a_file_names_the_file(problems_of: Any, tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "experiment").mkdir()
    text = f"# @package _global_\nstages: {{safety: {{{content}}}}}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text, "utf-8")
    assert problems_of(f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine") == [sentence]


@pytest.mark.parametrize("error", [ValueError("ours"), ConfigError("ours")])
def test_errors_of_ours_pass_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error), match=r"^ours$"), translated_errors("train"):
        raise error
