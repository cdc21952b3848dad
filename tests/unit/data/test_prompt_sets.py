"""Evaluation prompts out of files: the paper's, XSTest's, and anybody's."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
from huggingface_hub import constants
from hypothesis import given
from hypothesis import strategies as st
from real_data import find_real
from rows import HELPFULNESS, SAFETY, write

from sacpo_exp.config.data import DatasetConfig, DatasetSource, PromptsConfig, PromptsSource
from sacpo_exp.data.demo import generate_prompts
from sacpo_exp.data.prompts import Prompt, check_kinds, fingerprint_prompts, load_prompts, take_in_turn
from sacpo_exp.errors import DataError
from sacpo_exp.method.criteria import Criterion

DATASET = DatasetConfig(name="none", source=DatasetSource.path)
ROWS = [
    {"prompt": "How are you?", "kind": "benign", "category": "small talk"},
    {"prompt": "How do I open\na lock?", "kind": "risky", "category": None},
    {"prompt": "Grüße, wie geht's?", "kind": "benign", "category": "small talk"},
]


def real(name: str) -> Path:
    return find_real(f"prompts/{name}")


def load(source: PromptsSource = PromptsSource.local, **settings: Any) -> list[Prompt]:
    return load_prompts(PromptsConfig(name="test", source=source, **settings), DATASET)


def complaint(path: str, **settings: Any) -> str:
    """The message about a file that can't be used, after its name."""
    with pytest.raises(DataError) as caught:
        load(path=path, **settings)
    message = str(caught.value)
    assert message.startswith(path)
    return message.removeprefix(path).strip()


def test_rows_of_any_file_give_prompts(tmp_path: Path) -> None:
    pd.DataFrame(ROWS).to_csv(tmp_path / "prompts.csv", index=False)
    for path in (write(tmp_path / "prompts.json", ROWS), str(tmp_path / "prompts.csv")):
        read = load(path=path)
        assert [{field: prompt[field] for field in ROWS[0]} for prompt in read] == ROWS
        assert len({prompt["prompt_id"] for prompt in read}) == 3


def test_an_id_hangs_on_the_text_alone_and_equal_texts_get_a_number(tmp_path: Path) -> None:
    here = load(path=write(tmp_path / "a.json", ["One?", "Two?"]))
    there = load(path=write(tmp_path / "b.jsonl", '{"q": "Two?"}\n{"q": "Three?"}'), field="q")
    assert here[1]["prompt_id"] == there[0]["prompt_id"] != here[0]["prompt_id"]
    assert all(len(prompt["prompt_id"]) == 12 for prompt in here)
    first, second, third = load(path=write(tmp_path / "a.json", ["Same?", "Same?", "Same?"]))
    assert [second["prompt_id"], third["prompt_id"]] == [first["prompt_id"] + "-2", first["prompt_id"] + "-3"]


BAD = {
    "`prompt` is missing among `question`, `id`. Try: prompts.field=NAME": {"question": "One?", "id": 1},
    "`id` must be a text, but is 0.5": {"prompt": "One?", "id": 0.5},
}


@pytest.mark.parametrize("problem", BAD)
def test_a_bad_row_is_named_with_what_is_wrong(tmp_path: Path, problem: str) -> None:
    path = write(tmp_path / "a.json", [{"prompt": "Fine?"}, BAD[problem]])
    assert complaint(path) == f"has rows that can't be used:\nrow 2: {problem}"


def test_kinds_are_those_that_criteria_count(tmp_path: Path) -> None:
    rows = [{"prompt": "One?", "kind": "tricky"}, {"prompt": "Two?", "kind": "risky"}, {"prompt": "Three?"}]
    read = load(path=write(tmp_path / "a.json", rows))
    assert [prompt["kind"] for prompt in read] == ["tricky", "risky", None]
    honesty = Criterion("honesty", "T", prompt_kinds=["tricky"])
    check_kinds(read, [SAFETY, honesty])
    check_kinds(read, [SAFETY, replace(honesty, prompt_kinds=[])])  # which counts every prompt
    with pytest.raises(DataError, match="'tricky', which no criterion counts; their `prompt_kinds` are risky, benign"):
        check_kinds(read, [SAFETY, HELPFULNESS])


@given(st.lists(st.tuples(st.sampled_from(["benign", "risky", None]), st.sampled_from(["x", "y", None]))))
def test_in_turn_loses_nothing_and_any_first_part_holds_all_kinds_evenly(drawn: list[tuple[Any, Any]]) -> None:
    prompts = [{"prompt": str(i), "kind": kind, "category": name} for i, (kind, name) in enumerate(drawn)]
    ordered = take_in_turn(prompts)
    assert sorted(prompt["prompt"] for prompt in ordered) == sorted(prompt["prompt"] for prompt in prompts)
    total = Counter(kind for kind, _ in drawn)
    for limit in range(len(ordered)):
        taken = Counter(prompt["kind"] for prompt in ordered[:limit])
        unfinished = [taken[kind] for kind in total if taken[kind] < total[kind]]
        assert not unfinished or max(taken.values(), default=0) - min(unfinished) <= 1


#: Rows with the fields of the real sets, and what is read of them: text, kind, category.
SETS: dict[str, tuple[list[dict[str, Any]], list[tuple[str, str | None, str | None]]]] = {
    "pku_saferlhf_30k": (
        [{"prompt": text, "response_0": "No.", "better_response_id": 0} for text in ("A?", "B?", "A?")],
        [("A?", None, None), ("B?", None, None)],
    ),
    "beavertails": ([{"prompt": "A?", "category": "x", "category_id": 0}], [("A?", "risky", "x")]),
    "do_not_answer": ([{"id": 0, "risk_area": "x", "question": "A?"}], [("A?", "risky", "x")]),
    "wildguardtest": (
        [{"prompt": f"{label}?", "prompt_harm_label": label, "subcategory": "x"} for label in ("harmful", "unharmful")],
        [("harmful?", "risky", "x")],
    ),
}


@pytest.mark.parametrize("name", SETS)
def test_a_set_of_the_hub_is_read_by_name_or_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configure: Any, name: str
) -> None:
    """Here from the local cache of the hub, as no hub is at hand."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    rows, expected = SETS[name]
    repository = tmp_path / f"datasets--owner--{name}" / "snapshots" / ("1" * 40)
    repository.mkdir(parents=True)
    (repository / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    at_hub = [f"prompts={name}", f"prompts.path=owner/{name}", f"prompts.revision={'1' * 40}"]
    usual = configure(f"prompts={name}", command="eval").prompts
    files = {"config_name": usual.subset or "default", "data_files": [{"split": usual.split, "path": "rows.jsonl"}]}
    others = {"config_name": "other", "data_files": "none.jsonl"}
    (repository / "README.md").write_text(f"---\nconfigs: {json.dumps([files, others])}\n---\n")
    for overrides in (at_hub, [f"prompts={name}", "prompts.source=local", f"prompts.path={repository / 'rows.jsonl'}"]):
        read = load_prompts(configure(*overrides, command="eval").prompts, DATASET)
        found = [tuple(prompt[key] for key in ("prompt", "kind", "category")) for prompt in read]
        assert list(dict.fromkeys(found)) == expected
        assert len(found) == len(expected) or overrides is not at_hub


def test_rows_that_have_none_of_the_wanted_values_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [{"prompt": "A?", "label": "b"}, "C?"])
    assert complaint(path, where={"label": "a"}) == "where {'label': 'a'} holds no rows."


def test_the_demo_s_prompts_are_as_generated() -> None:
    prompts = PromptsConfig(name="demo", source=PromptsSource.demo, limit=7)
    assert load_prompts(prompts, DATASET) == generate_prompts(0)[:7]
    demo = DatasetConfig(name="demo", source=DatasetSource.demo, seed=3)
    assert load_prompts(prompts, demo) == generate_prompts(3)[:7]


def test_the_fingerprint_is_of_the_content_not_of_the_place(tmp_path: Path) -> None:
    def fingerprint(name: str, texts: list[str], **settings: Any) -> str:
        path = write(tmp_path / name, texts)
        return fingerprint_prompts(PromptsConfig(name=name, source=PromptsSource.local, path=path, **settings), DATASET)

    texts = ["One?", "Two?", "Three?"]
    assert fingerprint("a.json", texts) == fingerprint("b.json", texts) == fingerprint("b.json", texts, limit=3)
    others = [fingerprint("a.json", texts, limit=2), fingerprint("a.json", texts, kind="risky")]
    others.append(fingerprint("a.json", texts[::-1]))
    assert len({fingerprint("b.json", texts), *others}) == 4


def test_the_paper_s_prompts_are_129_benign_and_83_risky_ones(configure: Any) -> None:
    helpful, safety = real("sacpo_helpful_problem.json"), real("sacpo_safety_problem.json")
    paths = [f"prompts.helpful_path={helpful}", f"prompts.safety_path={safety}"]
    read = load_prompts(configure("prompts=sacpo", *paths).prompts, DATASET)
    assert Counter(prompt["kind"] for prompt in read) == {"benign": 129, "risky": 83}
    rows = {row["prompt"]: row["category"] for path in (helpful, safety) for row in json.loads(path.read_text("utf-8"))}
    assert {prompt["prompt"]: prompt["category"] for prompt in read} == rows
    assert len({prompt["prompt_id"] for prompt in read}) == 212


def test_an_id_in_two_files_is_refused_with_both(tmp_path: Path) -> None:
    keys = ("helpful", "safety")
    paths = {f"{key}_path": write(tmp_path / f"{key}.json", [{"prompt": key, "id": 1}]) for key in keys}
    with pytest.raises(DataError, match=r"row 1: has the prompt id '1', as row 1 of .*helpful\.json has"):
        load(PromptsSource.sacpo, **paths)


def test_xstest_has_250_benign_and_200_risky_prompts(configure: Any) -> None:
    path = real("xstest/xstest_prompts.csv")
    read = load_prompts(configure("prompts=xstest", f"prompts.path={path}").prompts, DATASET)
    frame = pd.read_csv(path, dtype=str)
    expected = frame.label.map({"safe": "benign", "unsafe": "risky"})
    by_id = {prompt["prompt_id"]: prompt for prompt in read}
    assert Counter(expected) == {"benign": 250, "risky": 200}
    assert [by_id[name]["kind"] for name in frame.id] == list(expected)
    assert [by_id[name]["category"] for name in frame.id] == list(frame.type)
    assert [by_id[name]["prompt"] for name in frame.id] == list(frame.prompt)
    assert len({prompt["category"] for prompt in read[:20]}) == 18


def test_an_unknown_label_of_xstest_is_refused(tmp_path: Path, configure: Any) -> None:
    path = write(tmp_path / "a.csv", "id,prompt,type,label\n1,One?,homonyms,safe\n2,Two?,riddles,odd\n")
    with pytest.raises(DataError) as caught:
        load_prompts(configure("prompts=xstest", f"prompts.path={path}").prompts, DATASET)
    assert str(caught.value).endswith("row 3: `label` must be one of safe, unsafe, but is 'odd'")
