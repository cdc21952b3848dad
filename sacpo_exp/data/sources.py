"""Where rows come from: demo, files, hub; and views on disk. The only caller of `datasets`."""

import functools
import itertools
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacpo_exp.config.data import DataSchema, DatasetConfig, DatasetSource
from sacpo_exp.data.demo import generate_rows
from sacpo_exp.data.files import RawRows, find_files, hash_files, is_saved_dataset, read_raw
from sacpo_exp.data.preferences import Preferences, Row, split_by_prompt
from sacpo_exp.data.schemas import normalise
from sacpo_exp.data.selection import flip_labels, mix, select_rows
from sacpo_exp.errors import DataError
from sacpo_exp.store import content_hash

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger(__name__)

SPLITS = ("train", "heldout")
#: Rows turned into Arrow at a time, so that a view never lies in memory twice.
ROWS_AT_ONCE = 2000
#: Settings that say where rows lie, or how many they seem to be, not which they are.
PLACES = ("name", "path", "heldout_path", "mix", "revision", "size")


def load_parts(dataset: DatasetConfig, expected: str | None = None) -> tuple[dict[str, Preferences], dict[str, int]]:
    """Checked rows of `train` and `heldout`, and how many rows were left out or turned around, by setting.

    Args:
        expected: the fingerprint that the rows are going to be stored under.

    Raises:
        DataError: a source can't be read, a row is not in the schema, nothing is left, or the rows are not the expected
            ones.
    """
    if dataset.source == DatasetSource.demo:
        parts, counts = _load_demo(dataset)
    else:
        parts, counts = _load_sources(dataset)
        if expected is not None and fingerprint(dataset) != expected:  # compared after the rows were read
            raise changed_meanwhile(f"`dataset={dataset.name}`")
    train = parts["train"]
    if dataset.flip_fraction:
        flipped = flip_labels(train.form, train.rows, dataset.flip_fraction, dataset.seed)
        train, counts["flip_fraction"] = train.with_rows(flipped.rows), flipped.count
    limited = {
        "train": train.with_rows(train.rows[: dataset.max_rows]),
        "heldout": parts["heldout"].with_rows(parts["heldout"].rows[: dataset.max_heldout_rows]),
    }
    for name, setting in (("train", "max_rows"), ("heldout", "max_heldout_rows")):
        counts[setting] = len(parts[name].rows) - len(limited[name].rows)
    if empty := [name for name, part in limited.items() if not part.rows]:
        raise DataError(f"`dataset={dataset.name}` has no rows in its {empty[0]} part. Try: a larger heldout_fraction")
    return limited, {setting: count for setting, count in counts.items() if count}


def _load_demo(dataset: DatasetConfig) -> tuple[dict[str, Preferences], Counter[str]]:
    counts: Counter[str] = Counter()
    parts = {}
    for name in SPLITS:
        rows = tuple(generate_rows(name, dataset.seed))
        parts[name] = _select(Preferences(DataSchema.pku, DataSchema.pku, None, rows), dataset, counts)
    return parts, counts


def _load_sources(dataset: DatasetConfig) -> tuple[dict[str, Preferences], Counter[str]]:
    counts: Counter[str] = Counter()
    if dataset.mix:
        sources = [normalise(read_sources(part.path), dataset) for part in dataset.mix]
        mixture = mix(sources, [part.weight for part in dataset.mix], dataset.seed)
        counts["mix"] = sum(len(source.rows) for source in sources) - sum(mixture.taken)
        whole = mixture.preferences
    else:
        whole = normalise(_read(dataset, dataset.path or "", dataset.train_split), dataset)
    data = _select(whole, dataset, counts)
    if dataset.heldout_path or dataset.heldout_split:
        read = _read(dataset, dataset.heldout_path or dataset.path or "", dataset.heldout_split or "train")
        return {"train": data, "heldout": _select(normalise(read, dataset), dataset, counts)}, counts
    train, held_out = split_by_prompt(data.rows, dataset.heldout_fraction, dataset.seed)
    return {"train": data.with_rows(train), "heldout": data.with_rows(held_out)}, counts


def _select(data: Preferences, dataset: DatasetConfig, counts: Counter[str]) -> Preferences:
    """`select_rows`, with what it and the reading left out added to `counts`."""
    selected, dropped = select_rows(data, dataset)
    counts.update(dropped)
    counts["on_bad_row"] += data.skipped
    return selected


def _read(dataset: DatasetConfig, path: str, split: str) -> tuple[RawRows, ...]:
    if dataset.source == DatasetSource.hub:
        return (read_hub(dataset, split),)
    return read_sources(path)


def read_sources(path: str) -> tuple[RawRows, ...]:
    """Raw rows of a file, of every file in a folder, or of a folder that `save_to_disk` wrote."""
    if is_saved_dataset(path):
        return (_read_saved(path),)
    files = find_files(path)
    is_folder = Path(path).expanduser().is_dir()
    return tuple(read_raw(file, f"{path}/{file.name}" if is_folder else path) for file in files)


def _read_saved(path: str) -> RawRows:
    from datasets import DatasetDict, load_from_disk

    with _explained(path):
        read = load_from_disk(str(Path(path).expanduser()))
    if isinstance(read, DatasetDict):
        raise DataError(f"{path} holds several splits ({', '.join(read)}). Try: dataset.path={path}/{next(iter(read))}")
    return RawRows(path, list(enumerate(read.to_list(), 1)))


def read_hub(dataset: DatasetConfig, split: str) -> RawRows:
    """Rows of one split of a repository on the hub, or of its copy in the local cache.

    Raises:
        DataError: there is no such repository, revision or split, or the hub can't be reached.
    """
    from datasets import load_dataset

    path = dataset.path or ""
    with _explained(path):
        rows = load_dataset(path, revision=resolve_revision(dataset), data_dir=dataset.data_dir, split=split)
    return RawRows(f"{path}, split {split}", list(enumerate(rows.to_list(), 1)))


@functools.lru_cache(maxsize=8)
def find_commit(kind: str, path: str, revision: str) -> str:
    """The commit that a branch on the hub points to; of the local cache where the hub is not reached."""
    from huggingface_hub import HfApi, constants

    try:
        return str(HfApi().repo_info(path, repo_type=kind, revision=revision).sha)
    except Exception as error:  # of several libraries below, not all of which say OSError
        cached = Path(constants.HF_HUB_CACHE) / f"{kind}s--{path.replace('/', '--')}" / "refs" / revision
        if cached.is_file():
            return cached.read_text("utf-8").strip()
        raise OSError(str(error)) from error


@functools.lru_cache(maxsize=8)
def find_commit_or_branch(kind: str, path: str, revision: str) -> str:
    """The commit or, where nobody can tell it now, the branch itself, with a warning: good enough for a plan."""
    try:
        return find_commit(kind, path, revision)
    except OSError:
        log.warning(
            "%s: which commit `%s` is can't be asked now, so ids and what is stored of it are provisional",
            *(path, revision),
        )
        return revision


def is_commit(revision: str) -> bool:
    """Whether this is no branch, tag or abbreviation."""
    return re.fullmatch("[0-9a-f]{40}", revision) is not None


def pin_revision(kind: str, path: str, revision: str | None, may_guess: bool = False) -> str:
    """A commit, so that an artifact's id means the same content for ever; a pinned one needs no network.

    Args:
        kind: `dataset` or `model`.
        may_guess: let the name of a branch stand in for a commit that can't be asked for.

    Raises:
        OSError: the commit can't be asked for, and the local cache does not know it.
    """
    revision = revision or "main"
    if is_commit(revision):
        return revision
    return (find_commit_or_branch if may_guess else find_commit)(kind, path, revision)


def resolve_revision(dataset: DatasetConfig, may_guess: bool = False) -> str:
    """`pin_revision` of a dataset, with what is wrong in one sentence."""
    with _explained(dataset.path or ""):
        return pin_revision("dataset", dataset.path or "", dataset.revision, may_guess)


def changed_meanwhile(what: str) -> DataError:
    """Say that something is no longer what this command has taken its ids from."""
    return DataError(
        f"{what} was changed while this command ran, so nothing of it is stored. Try: the same command again"
    )


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """What `datasets` complains about, in one sentence with what to do."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{path} can't be read: {reason} Without network, give a file. Try: dataset=local dataset.path=FILE"
        ) from error


def fingerprint(dataset: DatasetConfig, may_guess: bool = False) -> str:
    """Hash of what decides which rows are read: the content of files, a commit, and the settings; not their place.

    `may_guess`, for plans, as in `resolve_revision`.
    """
    settings = {key: value for key, value in asdict(dataset).items() if key not in PLACES}
    if dataset.source == DatasetSource.demo:
        identity: Any = {part: generate_rows(part, dataset.seed) for part in SPLITS}
    elif dataset.source == DatasetSource.hub:
        identity = [dataset.path, resolve_revision(dataset, may_guess)]
    else:
        parts = [(part.path, part.weight) for part in dataset.mix] or [(dataset.path or "", 1.0)]
        identity = [[hash_files(path), weight] for path, weight in parts]
        identity.append(hash_files(dataset.heldout_path) if dataset.heldout_path else None)
    return content_hash({"identity": identity, "settings": _plain(settings)})


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value.value if isinstance(value, Enum) else value for key, value in settings.items()}


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

    disable_caching()  # copies go to the folder for temporary files; caches would lie beside the rows, in the artifact
    return load_from_disk(str(folder / split))
