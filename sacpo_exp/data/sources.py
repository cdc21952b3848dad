"""Where rows come from, and their views on disk. The only caller of `datasets`."""

import functools
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacpo_exp.config.schema import Criterion, DatasetConfig, DatasetSource, LossName
from sacpo_exp.data.demo import generate_rows
from sacpo_exp.data.preferences import Row, check_rows, make_view, split_by_prompt
from sacpo_exp.errors import DataError
from sacpo_exp.store import ArtifactSpec, Store, content_hash

if TYPE_CHECKING:
    from datasets import Dataset

SPLITS = ("train", "heldout")


def load_rows(dataset: DatasetConfig, part: str) -> list[Row]:
    """Checked rows of one part: `train` and `heldout`, and for the demo also `judge`.

    Raises:
        DataError: the file can't be read, or a row is not in the schema.
    """
    if dataset.source == DatasetSource.demo:
        rows = generate_rows(part, dataset.seed)
    else:
        train, held_out = split_by_prompt(read_file(dataset.path or ""), dataset.heldout_fraction, dataset.seed)
        rows = {"train": train, "heldout": held_out}[part]
    limits = {"train": dataset.max_rows, "heldout": dataset.max_heldout_rows}
    return rows[: limits.get(part)]


def fingerprint(dataset: DatasetConfig) -> str:
    """Hash of the rows that training and its measurement see; the file's path and name don't matter."""
    return content_hash({part: load_rows(dataset, part) for part in SPLITS})


@functools.lru_cache(maxsize=2)
def read_file(path: str) -> tuple[Row, ...]:
    """Rows of a json (list of objects) or jsonl file, checked."""
    file = Path(path).expanduser()
    try:
        text = file.read_text("utf-8-sig")  # a byte order mark is no part of the first row
        rows = json.loads(text) if text.lstrip().startswith("[") else _read_lines(text, path)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: byte {error.start} can't be decoded.") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not valid JSON: line {error.lineno}: {error.msg}.") from error
    check_rows(rows, path)
    return tuple(rows)


def _read_lines(text: str, path: str) -> list[Any]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            if line.strip():
                rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise DataError(f"{path} is not valid JSON lines: line {number}: {error.msg}.") from error
    return rows


def view_artifact(dataset: DatasetConfig, rows_hash: str, loss: LossName, criterion: Criterion | None) -> ArtifactSpec:
    """The view of a dataset that a loss reads, as an artifact of its own: all runs of a sweep share it."""
    names = [loss.value] + ([criterion.value] if criterion else [])
    recipe = {"rows": rows_hash, "loss": loss.value, "criterion": criterion.value if criterion else None}
    return ArtifactSpec("view", ".".join([dataset.name, *names]), recipe, (), {"dataset": dataset.name})


def write_view(
    dataset: DatasetConfig, loss: LossName, criterion: Criterion | None, store: Store, spec: ArtifactSpec
) -> Path:
    """Build the view as Arrow files in the store, or find it there; TRL keeps its caches of it in the same folder."""

    def build(folder: Path) -> dict[str, Any]:
        from datasets import Dataset

        counts = {}
        for split in SPLITS:
            view = make_view(load_rows(dataset, split), loss, criterion)
            if not view:
                raise DataError(f"`dataset={dataset.name}` has no rows in its {split} part ({asdict(dataset)}).")
            Dataset.from_list(view).save_to_disk(folder / split)
            counts[split] = len(view)
        return counts

    return store.get_or_build(spec, build)


def read_view(folder: Path, split: str) -> "Dataset":
    """One split of a view that `write_view` made, memory-mapped."""
    from datasets import load_from_disk

    return load_from_disk(str(folder / split))
