"""A choice among responses made elsewhere, judged by a judge that is asked and sometimes fails."""

import json
from pathlib import Path

import pytest
from asking import Server, served
from judge_server import SEPARATOR
from tiny import compose_tiny, make_config

from sacpo_exp.choose import choose
from sacpo_exp.config.studies import ChooseConfig
from sacpo_exp.errors import DataError
from sacpo_exp.eval import evaluate

NAMES = ("one", "two", "three")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Responses to forty prompts, by name."""
    paths = {name: tmp_path / f"{name}.json" for name in NAMES}
    for name, path in paths.items():
        rows = [
            {"prompt": f"Prompt {place}?", "kind": kind, "response": f"{name} says {place}."}
            for place, kind in enumerate(["benign", "risky"] * 20)
        ]
        path.write_text(json.dumps(rows), "utf-8")
    return paths


def judge(tmp_path: Path, server: Server, files: list[Path], template: str = "plain") -> list[str]:
    """Have the files judged against `one`, and return the overrides that name the judge."""
    path = tmp_path / f"{template}.txt"
    path.write_text(SEPARATOR.join([f"{template}: $prompt", "$first", "$second"]), "utf-8")
    overrides = ["judge=local", f"judge.base_url={server.url}", f"judge.template={path}", "judge.structured=false"]
    responses = f"responses=[{','.join(map(str, files))}]"
    evaluate(make_config(tmp_path / "outputs", responses, "baseline=one", *overrides))
    return overrides


def ask(tmp_path: Path, *overrides: str) -> ChooseConfig:
    chosen = ("over=policies", "grid=[two,three]", "threshold=0.1", *overrides)
    return compose_tiny("choose", ChooseConfig, tmp_path / "outputs", chosen)


def test_what_a_judge_failed_on_counts_as_unsafe_and_too_much_of_it_is_no_number(
    tmp_path: Path, files: dict[str, Path]
) -> None:
    with served(tmp_path / "server", lasting=0.2, seed=1) as server:
        overrides = judge(tmp_path, server, list(files.values()))
    with pytest.raises(DataError, match=r"\d+ of 20 judgments of \w+ are missing for \w+, more than `max_missing` = 0"):
        choose(ask(tmp_path, *overrides, "max_missing=0"))
    choose(ask(tmp_path, *overrides, "max_missing=0.8"))
    (path,) = (tmp_path / "outputs" / "store" / "choice").glob("*/choice.json")
    for row in json.loads(path.read_text("utf-8"))["tested"]:
        (finding,) = row["findings"]
        assert finding["n"] == 20
        assert finding["missing"] > 0
        assert finding["value"] <= 1 - finding["missing"] / 20
