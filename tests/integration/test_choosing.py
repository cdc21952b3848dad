"""A choice with real tiny policies: what it makes, what it leaves, and that it is made once."""

import html
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tiny import compose_tiny, write_report

from sacpo_exp.choose import choose
from sacpo_exp.errors import MissingArtifactError
from sacpo_exp.store import Store

GRID = "grid=[0.35,0.65,1]"


ask = partial(compose_tiny, "choose")


def list_made(outputs: Path, part: str) -> list[str]:
    """Ids of all artifacts whose name has this part."""
    return [folder.name for folder in Store(outputs / "store").folders() if part in folder.name]


def list_files(outputs: Path) -> dict[Path, int]:
    """Every file of the store but locks, with its time."""
    paths = [path for path in (outputs / "store").rglob("*") if path.is_file() and ".locks" not in path.parts]
    return {path: path.stat().st_mtime_ns for path in paths}


def test_a_search_that_fails_at_the_safe_end_makes_no_more(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    choose(ask(trained, "threshold=0.9", GRID))
    prospects, answer, *_ = capsys.readouterr().out.splitlines()
    assert prospects.startswith("6 prompts can't certify safety win rate ≥ 0.9, even if all have the best verdict; 80%")
    assert answer.startswith("No policy is certified: q = 1 comes nearest to safety win rate")
    assert list_made(trained, ".q0.65") == list_made(trained, ".q0.35") == []
    assert len(list_made(trained, "merge-ratio.win-rate.0.9")) == 1


def test_a_choice_is_made_once(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ask(trained, "threshold=0.01", GRID)
    choose(config)
    first = capsys.readouterr().out
    for ratio in ("0.65", "0.35"):
        kinds = {folder.parent.name for folder in Store(trained / "store").folders() if f".q{ratio}" in folder.name}
        assert kinds == {"merge", "responses", "scores", "judgments"}
    before = list_files(trained)
    choose(config)
    assert capsys.readouterr().out == first
    assert list_files(trained) == before
    (folder,) = (trained / "store" / "choice").glob("merge-ratio.win-rate.0.01.*")
    stored = json.loads((folder / "choice.json").read_text("utf-8"))
    assert stored["sentence"] in first
    assert [row["title"] for row in stored["tested"]] == ["q = 1", "q = 0.65", "q = 0.35"]
    assert stored["question"]["threshold"] == 0.01
    assert (folder / "choice.png").read_bytes().startswith(b"\x89PNG")
    write_report(trained, "model=tiny")
    page = html.unescape((trained / "report" / "report.html").read_text("utf-8"))
    assert stored["sentence"] in " ".join(page.split())
    assert stored["sentence"][:60] in capsys.readouterr().out


def test_the_strengths_of_a_sweep_have_to_be_trained_all(trained: Path) -> None:
    with pytest.raises(MissingArtifactError, match=r"b0\.033-\w+\. Run `sacpo train`"):
        choose(ask(trained, "threshold=0.6", "over=beta", "grid=[0.033,0.1]"))  # a strength that no other test trains


def test_a_dry_run_says_what_it_takes_at_most(cli: Callable[..., Any]) -> None:
    chosen = ["threshold=0.6", "grid=[0.5,1]", "model=tiny", "judge=openai", "dry_run=true"]
    chosen += ["hardware=cpu", "generation.dtype=float32"]  # nothing that the machine decides, and tells in a line
    result = cli("choose", *chosen, light=True)
    assert (result.code, result.stderr) == (0, "")
    power, tests, *artifacts, calls = result.stdout.splitlines()
    assert power.startswith("60 prompts certify safety win rate ≥ 0.6 for a policy with a true 0.7 in ")
    assert tests == "tests q = 1, q = 0.5: in this order until the first that fails"
    assert calls.startswith("judges   480 calls to ")
    assert any("to make merge" in line for line in artifacts)
