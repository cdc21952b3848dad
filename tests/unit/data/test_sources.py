"""Reading rows from files, and their views on disk."""

import json
from pathlib import Path
from typing import Any

import pytest
from rows import SAFETY, preferences
from tiny import write_lines

from sacpo_exp.config.data import DataSchema, DatasetConfig, DatasetSizeConfig, DatasetSource, OnBadRow
from sacpo_exp.data.checks import PKU_FIELDS
from sacpo_exp.data.demo import generate_rows
from sacpo_exp.data.forms import normalise
from sacpo_exp.data.preferences import make_view
from sacpo_exp.data.sources import fingerprint, load_parts, read_sources, read_view, save_view
from sacpo_exp.errors import DataError
from sacpo_exp.method.losses import View

ROWS = [{name: row[name] for name in PKU_FIELDS} for row in generate_rows("heldout", 0)[:12]]


def from_file(path: Path, **settings: Any) -> DatasetConfig:
    return DatasetConfig(name="local", source=DatasetSource.path, path=str(path), **settings)


def from_hub(**settings: Any) -> DatasetConfig:
    return DatasetConfig(name="hub", source=DatasetSource.hub, path="nobody/nothing-there", **settings)


@pytest.mark.parametrize("mark", ["\u2028", "\\u000b"], ids=["U+2028", "U+000B"])
def test_jsonl_is_split_at_newlines_only(tmp_path: Path, mark: str) -> None:
    path = write_lines(tmp_path / "rows.jsonl", ROWS)
    path.write_text(path.read_text("utf-8").replace(ROWS[0]["prompt"], f"one{mark}line"), "utf-8")
    assert normalise(read_sources(str(path)), from_file(path)).rows[0]["prompt"] == json.loads(f'"one{mark}line"')


def test_a_file_is_split_into_train_and_heldout(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", generate_rows("train", 0))
    dataset = from_file(path, heldout_fraction=0.25)
    train, held_out = (load_parts(dataset)[0][part].rows for part in ("train", "heldout"))
    assert len(train) + len(held_out) == len(generate_rows("train", 0))
    prompts = {row["prompt"] for row in held_out}
    assert not prompts & {row["prompt"] for row in train}
    assert len(prompts) == round(0.25 * len({row["prompt"] for row in generate_rows("train", 0)}))


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", ROWS)
    same = fingerprint(from_file(path))
    assert fingerprint(from_file(write_lines(tmp_path / "b.jsonl", ROWS))) == same
    changed = write_lines(tmp_path / "c.jsonl", [row | {"prompt": row["prompt"] + " Please."} for row in ROWS])
    others = (from_file(changed), from_file(path, max_rows=3), from_file(path, seed=1))
    assert same not in map(fingerprint, others)


def test_a_view_is_read_back_as_it_was(tmp_path: Path) -> None:
    view = make_view(preferences(DataSchema.pku, ROWS), View.labels, SAFETY)
    save_view(view, tmp_path / "kto.safety" / "train")
    assert read_view(tmp_path / "kto.safety", "train").to_list() == view


def test_whatever_is_left_out_of_any_part_is_counted(tmp_path: Path) -> None:
    train = write_lines(tmp_path / "train.jsonl", [*ROWS[:6], ROWS[0], {}])
    own = {"heldout_path": str(write_lines(tmp_path / "test.jsonl", [*ROWS[6:], {}])), "max_heldout_rows": 4}
    dataset = from_file(train, on_bad_row=OnBadRow.skip, drop_duplicates=True, **own)
    assert load_parts(dataset)[1] == {"on_bad_row": 2, "drop_duplicates": 1, "max_heldout_rows": 2}


def test_labels_of_the_training_part_only_are_flipped(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", ROWS)
    (usual, _), (flipped, counts) = (load_parts(from_file(path, flip_fraction=share)) for share in (0.0, 1.0))
    assert counts["flip_fraction"] == len(usual["train"].rows)
    assert usual["heldout"] == flipped["heldout"]
    for row, turned in zip(usual["train"].rows, flipped["train"].rows, strict=True):
        assert turned["better_response_id"] == 1 - row["better_response_id"]


def test_a_hub_that_can_t_be_reached_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match=r"^nobody/nothing-there can't be read: .* Try: dataset=local dataset\.path="):
        fingerprint(from_hub(revision="main"))


def test_a_pinned_commit_is_the_identity(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pinned = fingerprint(from_hub(revision="a" * 40))
    assert fingerprint(from_hub(revision="b" * 40)) != pinned
    assert fingerprint(from_hub(revision="a" * 40, max_rows=3)) != pinned
    assert fingerprint(from_hub(revision="a" * 40, size=DatasetSizeConfig(3, 4.0, 5.0))) == pinned
    assert fingerprint(from_hub(revision="a" * 40), may_guess=True) == pinned
    # A plan may count with a branch.
    assert len({fingerprint(from_hub(revision=name), may_guess=True) for name in ("main", "main", "other")}) == 2
    warnings = [message for message in caplog.messages if "the commit of `main` can't be looked up" in message]
    assert len(warnings) == 1


def test_a_part_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^`dataset=local` has no rows in its train part"):
        load_parts(from_file(write_lines(tmp_path / "one.jsonl", ROWS[:1])))
