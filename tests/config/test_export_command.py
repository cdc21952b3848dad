"""Mistakes on the command lines of `export` and `chat`: one sentence each, before anything heavy is read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MISTAKES = {
    "vllm": (
        "chat",
        ["generation.engine=vllm"],
        "`generation.engine=vllm` answers in batches, chat one by one. Try: generation.engine=hf",
    ),
}


@pytest.mark.parametrize(("command", "overrides", "sentence"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_is_one_sentence(
    problems_of: Callable[..., list[str]], command: str, overrides: list[str], sentence: str
) -> None:
    assert problems_of("model=tiny", *overrides, command=command) == [sentence]


def test_a_folder_of_somebody_else_is_refused_before_anything_is_loaded(
    cli: Callable[..., Any], model_folder: Path
) -> None:
    done = cli("export", "model=tiny", f"folder={model_folder}", light=True)
    assert done.code == 2
    assert done.stderr.startswith(f"error: {model_folder} holds something other than an unchanged export of ")


def test_untrained_policies_are_named_before_anything_is_loaded(cli: Callable[..., Any]) -> None:
    done = cli("chat", "model=tiny", "prompt=Why, or why not?", light=True)
    assert done.code == 2
    assert done.stderr.startswith("error: not trained yet: tiny.sft.dpo-h-b0.1.dpo-s-b0.1-")
