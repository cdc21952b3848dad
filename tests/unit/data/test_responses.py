"""Responses made elsewhere: files of others, and the messages about those that can't be used."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest
from real_data import find_real
from rows import write

from sacpo_exp.config.data import DatasetConfig, DatasetSource, PromptsConfig, PromptsSource
from sacpo_exp.data.prompts import load_prompts
from sacpo_exp.data.responses import ImportedResponses, align_responses, read_responses
from sacpo_exp.errors import DataError

NAMES = ("alpaca-7b", "alpaca-farm-ppo-human", "vicuna-7b")


def said(path: Path, **responses: str) -> ImportedResponses:
    """A file in which each prompt has its response."""
    return read_responses(write(path, [{"prompt": prompt, "response": text} for prompt, text in responses.items()]))


def test_the_real_files_hold_what_three_models_said_to_the_paper_s_prompts() -> None:
    paths = [find_real(f"responses/{name}.json") for name in NAMES]
    sets = align_responses([read_responses(str(path)) for path in paths])
    assert [imported.name for imported in sets] == list(NAMES)
    for path, imported in zip(paths, sets, strict=True):
        frame = pd.read_json(path)
        assert [prompt["prompt"] for prompt in imported.prompts] == list(frame.instruction)
        assert imported.responses == list(frame.output)
    prompts = PromptsConfig(name="sacpo", source=PromptsSource.sacpo)
    prompts.helpful_path = str(find_real("prompts/sacpo_helpful_problem.json"))
    known = load_prompts(prompts, DatasetConfig(name="none", source=DatasetSource.path))
    ids = [{prompt["prompt_id"] for prompt in read} for read in (known, sets[0].prompts)]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 129


@pytest.mark.parametrize(
    ("asked", "answered"), [("prompt", "response"), ("instruction", "output"), ("prompt", "completion")]
)
def test_fields_may_have_other_names_and_files_name_policies(tmp_path: Path, asked: str, answered: str) -> None:
    rows = [{asked: "One?", answered: "One."}, {asked: "Two?", answered: ""}]
    lines, table = tmp_path / "my.model-1.2.jsonl.gz", tmp_path / "c.csv"
    lines.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    pd.DataFrame(rows).to_csv(table, index=False)
    for path, name in ((write(tmp_path / "a.json", rows), "a"), (str(lines), "my.model-1.2"), (str(table), "c")):
        imported = read_responses(path)
        assert imported.name == name
        assert [prompt["prompt"] for prompt in imported.prompts] == ["One?", "Two?"]
        assert imported.responses == ["One.", ""]


def test_an_input_follows_its_instruction_and_kind_category_and_id_are_read(tmp_path: Path) -> None:
    rows = [{"instruction": "Add.", "input": "1 + 1"}, {"instruction": "Rest.", "input": ""}]
    imported = read_responses(write(tmp_path / "a.json", [row | {"output": ""} for row in rows]))
    assert [prompt["prompt"] for prompt in imported.prompts] == ["Add.\n\n1 + 1", "Rest."]
    row = {"prompt": "One?", "response": " ", "kind": "risky", "category": "locks", "prompt_id": "p1"}
    imported = read_responses(write(tmp_path / "a.json", [row]))
    assert imported.prompts == [{"prompt_id": "p1", "prompt": "One?", "kind": "risky", "category": "locks"}]
    assert imported.responses == [" "]


FINE = {"prompt": "Fine?", "response": "Fine."}


def test_a_bad_row_is_named_with_what_is_wrong(tmp_path: Path) -> None:
    for row, problem in (
        ({"prompt": "One?", "instruction": "One!", "output": ""}, "must have its prompt in one of `prompt`, `instruct"),
        ({"prompt": "One?", "text": ""}, "must have its response in one of `response`, `output`, `completion`"),
        ({"prompt": "One?", "response": None}, "`response` must be a text, but is None"),
        (FINE, "has the prompt of row 1 again"),
    ):
        path = write(tmp_path / "a.json", [FINE, row])
        with pytest.raises(DataError) as caught:
            read_responses(path)
        assert str(caught.value).startswith(f"{path} has rows that can't be used:\nrow 2: {problem}")


def test_sets_in_another_order_and_with_other_ids_are_aligned_to_the_first(tmp_path: Path) -> None:
    first = said(tmp_path / "a.json", x="ax", y="ay")
    rows = [{"id": 1, "prompt": "y", "output": "by"}, {"id": 2, "prompt": "x", "output": "bx"}]
    second = read_responses(write(tmp_path / "b.json", rows))
    aligned = align_responses([first, second])
    assert aligned[0] == first
    assert (aligned[1].name, aligned[1].prompts, aligned[1].responses) == ("b", first.prompts, ["bx", "by"])


def test_other_prompts_are_refused_with_their_number_and_an_example(tmp_path: Path) -> None:
    whole, part = said(tmp_path / "a.json", x="", y="", z=""), said(tmp_path / "b.json", z="", w="")
    with pytest.raises(DataError, match="must answer the same prompts, but b lacks 2 and has 1 others: it lacks 'x'"):
        align_responses([whole, part])
    with pytest.raises(DataError, match="but a lacks 0 and has 1 others: it has 'x'"):
        align_responses([said(tmp_path / "c.json", y="", z=""), whole])


def test_two_files_of_one_name_are_refused_and_stored_responses_are_not(tmp_path: Path) -> None:
    sets = [said(tmp_path / folder / "a.json", x="") for folder in ("one", "two")]
    with pytest.raises(DataError, match=r"^`responses` must be files of different names, but .* are both called a\."):
        align_responses(sets)
    stored = [{"prompt_id": "x", "prompt": "x", "kind": None, "category": None}]
    others = [ImportedResponses("second", stored, [text]) for text in ("one", "two")]
    assert align_responses(others) == others
