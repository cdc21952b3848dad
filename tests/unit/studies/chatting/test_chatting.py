"""Texts side by side in a terminal, and on Hydra's command line."""

import io

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from rich.cells import cell_len
from rich.console import Console

from sacpo_exp.config.loading import quote, shared_overrides
from sacpo_exp.config.schema import ChatConfig, ExportConfig
from sacpo_exp.studies.chatting import print_columns, quote_prompt

TEXTS = [("SFT (baseline)", "One two three.\n\nFour."), ("DPO(H)→DPO(S) β=0.1", "五" * 30)]


def printed(texts: list[tuple[str, str]], width: int) -> list[str]:
    file = io.StringIO()
    print_columns(texts, Console(file=file, width=width))
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 40])
def test_texts_fit_and_lose_nothing(width: int) -> None:
    lines = printed(TEXTS, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).count("五") == 30
    titles = [line for line in lines if "SFT (baseline)" in line or "DPO(H)" in line]
    assert len(titles) == (1 if width == 60 else 2)  # side by side, or one below the other


def test_nothing_moves_the_cursor() -> None:
    text = "\n".join(printed([("A\x07", "a\x1b[2Jb\rc\td [bold]x[/bold]")], 40))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[bold]x[/bold]" in text


@pytest.mark.parametrize("text", ["plain", "null", "it's", "a\\", "", "1", "a b, c", "x=1", "two\nlines", "[a]"])
def test_texts_survive_hydras_grammar(text: str) -> None:
    (parsed,) = OverridesParser.create().parse_overrides([f"key={quote(text)}"])
    assert parsed.value() == text


def test_a_prompt_may_hold_whatever_means_something_to_hydra() -> None:
    arguments = ["beta=0.1", "prompt=Why, {then}?", "prompt='Why?'", "prompt=null"]
    assert quote_prompt(arguments) == ["beta=0.1", "prompt='Why, {then}?'", "prompt='Why?'", "prompt=null"]


def test_only_overrides_that_training_knows_are_kept() -> None:
    kept = ["model=tiny", "dataset@stages.safety.dataset=local", "++stages.safety.trainer.max_steps=1"]
    assert shared_overrides(["prompt='a=b'", *kept], ChatConfig) == kept
    assert shared_overrides(["hub=me/mine", "+folder=/a", "private=false", *kept], ExportConfig) == kept
