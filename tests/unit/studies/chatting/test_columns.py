"""Texts side by side, and what a command line may hold of a prompt."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from sacpo_exp.studies.chatting.columns import format_columns, measure, wrap
from sacpo_exp.studies.chatting.speakers import quote_prompt

TEXTS = [("SFT (baseline)", "One two three.\n\nFour."), ("DPO(H)→DPO(S) β=0.1", "五" * 30)]


def test_columns_stand_side_by_side_and_fit() -> None:
    lines = format_columns(TEXTS, 60).splitlines()
    assert all(measure(line) <= 60 for line in lines)
    assert lines[0] == f"{'SFT (baseline)':<29}  DPO(H)→DPO(S) β=0.1"
    assert lines[1] == "─" * 29 + "  " + "─" * 29
    assert [line[:29].strip() for line in lines[2:5]] == ["One two three.", "", "Four."]
    assert [line[31:] for line in lines[2:5]] != ["", "", ""]
    assert "".join(lines[2:]).count("五") == 30


def test_texts_stand_below_one_another_where_it_is_narrow() -> None:
    lines = format_columns(TEXTS, 40).splitlines()
    assert lines.index("SFT (baseline)") < lines.index("One two three.") < lines.index("DPO(H)→DPO(S) β=0.1")
    assert lines[1] == "─" * 40


def test_one_text_takes_the_whole_width() -> None:
    assert format_columns([("A", "b " * 30)], 20).splitlines()[1] == "─" * 20


def test_nothing_moves_the_cursor() -> None:
    assert wrap("a\x1b[2Jb\rc\td", 20) == ["a [2Jb", "c d"]


@pytest.mark.parametrize(
    "prompt", ["How do I bake bread, please?", "It's {odd}: [a,b]=c", "null hypothesis?", "'so' he said", "5"]
)
def test_a_prompt_reaches_hydra_as_it_was_typed(prompt: str) -> None:
    (argument,) = quote_prompt([f"prompt={prompt}"])
    assert str(OverridesParser.create().parse_override(argument).value()) == prompt


def test_what_is_quoted_already_and_other_arguments_stay() -> None:
    arguments = ["prompt='a, b'", 'prompt="a"', "prompt=null", "policies=all"]
    assert quote_prompt(arguments) == arguments
