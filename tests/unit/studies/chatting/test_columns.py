"""Texts side by side in a terminal."""

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from sacpo_exp.studies.chatting import print_columns

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
