"""Where rows come from, and their views on disk. The only caller of `datasets`."""

import functools
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacpo_exp.config.schema import Criterion, DataSchema, DatasetConfig, DatasetSource, LossName
from sacpo_exp.data.demo import generate_rows
from sacpo_exp.data.files import RawRows, find_files, read_raw
from sacpo_exp.data.preferences import Preferences, Row, make_view, split_by_prompt
from sacpo_exp.data.schemas import normalise
from sacpo_exp.errors import DataError
from sacpo_exp.store import ArtifactSpec, Store, content_hash

if TYPE_CHECKING:
    from datasets import Dataset

SPLITS = ("train", "heldout")


def load_preferences(dataset: DatasetConfig, part: str) -> Preferences:
    """Checked rows of one part: `train` and `heldout`, and for the demo also `judge`.

    Raises:
        DataError: a file can't be read, or a row is not in the schema.
    """
    if dataset.source == DatasetSource.demo:
        rows = generate_rows(part, dataset.seed)
        data = Preferences(DataSchema.pku, DataSchema.pku, None, tuple(rows))
    else:
        data = normalise(read_sources(dataset.path or ""), dataset)
        train, held_out = split_by_prompt(data.rows, dataset.heldout_fraction, dataset.seed)
        rows = {"train": train, "heldout": held_out}[part]
    limits = {"train": dataset.max_rows, "heldout": dataset.max_heldout_rows}
    return data.with_rows(rows[: limits.get(part)])


def load_rows(dataset: DatasetConfig, part: str) -> list[Row]:
    """The rows of `load_preferences`."""
    return list(load_preferences(dataset, part).rows)


def fingerprint(dataset: DatasetConfig) -> str:
    """Hash of the rows that training and its measurement see; the file's path and name don't matter."""
    return content_hash({part: load_rows(dataset, part) for part in SPLITS})


@functools.lru_cache(maxsize=2)
def read_sources(path: str) -> tuple[RawRows, ...]:
    """Raw rows of a file, or of every file in a folder."""
    files = find_files(path)
    is_folder = Path(path).expanduser().is_dir()
    return tuple(read_raw(file, f"{path}/{file.name}" if is_folder else path) for file in files)


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
            view = make_view(load_preferences(dataset, split), loss, criterion)
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
