"""Read rows from the demo, files or the hub; write and read views. The only caller of `datasets`."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacpo_exp.config.data import DataSchema, DatasetConfig, DatasetSource
from sacpo_exp.data.demo import generate_rows
from sacpo_exp.data.files import RawRows, find_files, hash_files, read_raw
from sacpo_exp.data.forms import normalise
from sacpo_exp.data.hub import download, pin_revision
from sacpo_exp.data.preferences import Preferences, Row, split_by_prompt
from sacpo_exp.data.selection import flip_labels, select_rows
from sacpo_exp.errors import DataError
from sacpo_exp.store import content_hash

if TYPE_CHECKING:
    from datasets import Dataset

SPLITS = ("train", "heldout")
#: Rows converted to Arrow at a time, so that a view is never in memory twice.
ROWS_AT_ONCE = 2000
#: Settings that do not decide which rows are read.
PLACES = ("name", "path", "heldout_path", "revision", "size")


def load_parts(dataset: DatasetConfig, expected: str | None = None) -> tuple[dict[str, Preferences], dict[str, int]]:
    """Return checked rows of `train` and `heldout`, and how many rows each setting left out or flipped.

    Args:
        expected: the fingerprint that the rows will be stored under.

    Raises:
        DataError: a source can't be read, a row is not in the schema, nothing is left, or the rows are not the expected
            ones.
    """
    counts: Counter[str] = Counter()

    def select(data: Preferences) -> Preferences:
        selected, dropped = select_rows(data, dataset)
        counts.update(dropped)
        counts["on_bad_row"] += data.skipped
        return selected

    if dataset.source == DatasetSource.demo:
        rows = {split: tuple(generate_rows(split, dataset.seed)) for split in SPLITS}
        parts = {split: select(Preferences(DataSchema.pku, DataSchema.pku, None, rows[split])) for split in SPLITS}
    else:
        data = select(normalise(_read(dataset, dataset.path or "", dataset.train_split), dataset))
        if dataset.heldout_path or dataset.heldout_split:
            read = _read(dataset, dataset.heldout_path or dataset.path or "", dataset.heldout_split or "train")
            parts = {"train": data, "heldout": select(normalise(read, dataset))}
        else:
            train, held_out = split_by_prompt(data.rows, dataset.heldout_fraction, dataset.seed)
            parts = {"train": data.with_rows(train), "heldout": data.with_rows(held_out)}
        if expected is not None and fingerprint(dataset) != expected:  # compared after the rows were read
            raise changed_meanwhile(f"`dataset={dataset.name}`")
    if dataset.flip_fraction:
        whole = parts["train"]
        flipped, counts["flip_fraction"] = flip_labels(whole.form, whole.rows, dataset.flip_fraction, dataset.seed)
        parts["train"] = whole.with_rows(flipped)
    for split, setting in (("train", "max_rows"), ("heldout", "max_heldout_rows")):
        found, limit = parts[split].rows, getattr(dataset, setting)
        parts[split] = parts[split].with_rows(found[:limit])
        counts[setting] = len(found) - len(parts[split].rows)
    if empty := [split for split, part in parts.items() if not part.rows]:
        raise DataError(f"`dataset={dataset.name}` has no rows in its {empty[0]} part. Try: a larger heldout_fraction")
    return parts, {setting: count for setting, count in counts.items() if count}


def _read(dataset: DatasetConfig, path: str, split: str) -> tuple[RawRows, ...]:
    return (read_hub(dataset, split),) if dataset.source == DatasetSource.hub else read_sources(path)


def read_sources(path: str) -> tuple[RawRows, ...]:
    """Return raw rows of a file, or of every file in a folder."""
    is_folder = Path(path).expanduser().is_dir()
    return tuple(read_raw(file, f"{path}/{file.name}" if is_folder else path) for file in find_files(path))


def read_hub(dataset: DatasetConfig, split: str) -> RawRows:
    """Return the rows of one split of a repository on the hub."""
    from datasets import load_dataset

    path = dataset.path or ""
    with _explained(path):
        # From a folder: by name the datasets library would take any cached commit where the hub can't be reached.
        folder = str(download_dataset(dataset))
        rows = load_dataset(folder, dataset.subset, data_dir=dataset.data_dir, split=split)
    return RawRows(f"{path}, split {split}", list(enumerate(rows.to_list(), 1)))


def download_dataset(dataset: DatasetConfig) -> Path:
    """Return the folder of a dataset's commit in the local cache of the hub, after download of what is not there."""

    def is_wanted(name: str) -> bool:
        return name == "README.md" or name.startswith(dataset.data_dir or "")

    with _explained(dataset.path or ""):
        return download("dataset", dataset.path or "", resolve_revision(dataset), is_wanted)


def resolve_revision(dataset: DatasetConfig, may_guess: bool = False) -> str:
    """Return `pin_revision` of a dataset; raises DataError."""
    with _explained(dataset.path or ""):
        return pin_revision("dataset", dataset.path or "", dataset.revision, may_guess)


def changed_meanwhile(what: str) -> DataError:
    """Return the error for a file or folder that changed after this command computed its ids."""
    return DataError(
        f"{what} was changed while this command ran, so nothing of it is stored. Try: the same command again"
    )


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turn an error of `datasets` into one sentence with a remedy."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if isinstance(error, OSError):
            reason += " Without network, give a file. Try: dataset=local dataset.path=FILE, "
            reason += "or prompts.source=local prompts.path=FILE"
        raise DataError(f"{path} can't be read: {reason}") from error


def fingerprint(dataset: DatasetConfig, may_guess: bool = False) -> str:
    """Return a hash of what decides which rows are read: the content of files or a commit, and the settings.

    Paths do not count. `may_guess` is that of `pin_revision`.
    """
    settings = {key: value for key, value in asdict(dataset).items() if key not in PLACES}
    if dataset.subset is None:  # ids stay those of earlier versions
        del settings["subset"]
    if dataset.source == DatasetSource.demo:
        identity: Any = {part: generate_rows(part, dataset.seed) for part in SPLITS}
    elif dataset.source == DatasetSource.hub:
        identity = [dataset.path, resolve_revision(dataset, may_guess)]
    else:
        heldout = hash_files(dataset.heldout_path) if dataset.heldout_path else None
        identity = [[hash_files(dataset.path or ""), 1.0], heldout]  # 1.0: so that ids stay those of earlier versions
    plain = {key: value.value if isinstance(value, Enum) else value for key, value in settings.items()}
    return content_hash({"identity": identity, "settings": plain})


def save_view(rows: Iterable[Row], folder: Path) -> None:
    """Write a view as Arrow files."""
    import pyarrow as pa
    from datasets import Dataset

    remaining, batches = iter(rows), []
    while batch := list(itertools.islice(remaining, ROWS_AT_ONCE)):
        batches.append(pa.Table.from_pylist(batch))
    Dataset(pa.concat_tables(batches)).save_to_disk(folder)


def read_view(folder: Path, split: str) -> "Dataset":
    """One split of a view, memory-mapped."""
    from datasets import disable_caching, load_from_disk

    disable_caching()  # caches would be written into the artifact
    return load_from_disk(str(folder / split))
