"""The manifest of an artifact: its recipe and metrics, and the hashes of its files, written whole or not at all."""

import hashlib
import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path, PurePosixPath
from types import UnionType
from typing import Any, get_origin, get_type_hints

from sacpo_exp.errors import StoreError
from sacpo_exp.store.identity import KINDS, SCHEMA_VERSION, ArtifactSpec, content_hash, hash_of, is_id, recipe_hash

NAME = "manifest.json"
#: Key of the hash of all the rest; absent from manifests of older versions.
DIGEST = "sha256"
#: Folder of an unfinished artifact from which a killed build resumes; no part of the artifact.
SCRATCH = "checkpoints"
#: Packages whose version can change a result.
PACKAGES = ("torch", "transformers", "trl", "accelerate", "datasets", "mergekit", "scikit-learn", "numpy", "deepspeed")


@dataclass(frozen=True)
class Manifest:
    """Read back from `manifest.json`; `files` maps relative paths to size in bytes and SHA-256."""

    id: str
    kind: str
    schema: int
    recipe: dict[str, Any]
    parents: list[str]
    labels: dict[str, Any]
    metrics: dict[str, Any]
    created: str
    seconds: float
    versions: dict[str, str]
    commit: str | None
    files: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Raise StoreError if the manifest of `folder` is missing or was damaged."""
        try:
            return cls.parse((folder / NAME).read_bytes(), str(folder / NAME))
        except OSError as error:
            raise StoreError(f"{folder / NAME} is missing or damaged ({type(error).__name__})") from error

    @classmethod
    def parse(cls, text: bytes, place: str) -> "Manifest":
        """Raise StoreError if the text of the manifest at `place` was damaged, or is not one of ours."""
        try:
            content = json.loads(text)
            problem = find_problem(content)
        except (ValueError, RecursionError) as error:
            problem = type(error).__name__
        if problem:
            raise StoreError(f"{place} is missing or damaged ({problem})")
        content.pop(DIGEST, None)
        return cls(**content)

    def write(self, folder: Path) -> None:
        """Write `folder/manifest.json` and make sure that it is on the disk."""
        content = json.loads(json.dumps(asdict(self)))  # as it will be read
        content[DIGEST] = content_hash(content)
        write_whole(folder / NAME, json.dumps(content, indent=1, sort_keys=True))

    def with_ids(self, ids: dict[str, str]) -> "Manifest":
        """Return a copy whose parents and labels, at any depth, name other artifacts by the values of `ids`, by hash.

        Ids that it lacks are added to it: models outside of the store have no folder there that gives their name.
        """

        def rename(artifact_id: str) -> str:
            return ids.setdefault(hash_of(artifact_id), artifact_id)

        def walk(value: Any, key: str = "") -> Any:
            if isinstance(value, dict):
                return {name: walk(entry, name) for name, entry in value.items()}
            if isinstance(value, list):
                return [walk(entry) for entry in value]
            return rename(value) if isinstance(value, str) and value and (key == "id" or key.endswith("_id")) else value

        return replace(self, parents=[rename(parent) for parent in self.parents], labels=walk(self.labels))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry["size"] for entry in self.files.values())


def make_manifest(spec: ArtifactSpec, folder: Path, metrics: dict[str, Any], created: str, seconds: float) -> Manifest:
    """Return the manifest of the finished files in `folder`."""
    files = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": hash_file(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != NAME and not path.is_relative_to(folder / SCRATCH)
    }
    return Manifest(
        id=spec.id,
        kind=spec.kind,
        schema=SCHEMA_VERSION,
        recipe=spec.recipe,
        parents=list(spec.parents),
        labels=spec.labels,
        metrics=metrics,
        created=created,
        seconds=round(seconds, 2),
        versions=installed_versions(),
        commit=git_commit(),
        files=files,
    )


def find_problem(content: Any) -> str | None:
    """Return what is wrong with the content of a manifest; paths and keys of one that passes are safe to use."""
    hints = get_type_hints(Manifest).items()
    types = {name: hint if isinstance(hint, UnionType) else get_origin(hint) or hint for name, hint in hints}
    if not isinstance(content, dict) or content.keys() - {DIGEST} != types.keys():
        return "not the fields of a manifest"
    rest = {name: content[name] for name in types}
    if DIGEST in content and content[DIGEST] != content_hash(rest):
        return "changed since it was written"
    if wrong := [name for name, kind in types.items() if not isinstance(rest[name], kind)]:
        return f"a wrong value of {wrong[0]}"
    if not all(isinstance(parent, str) for parent in rest["parents"]):
        return "a wrong value of parents"
    if not all(is_entry(name, entry, rest["files"]) for name, entry in rest["files"].items()):
        return "a wrong value of files"
    end = recipe_hash(rest["kind"], rest["recipe"], rest["parents"], rest["schema"])
    if rest["kind"] not in KINDS or not is_id(rest["id"]) or not rest["id"].endswith(f"-{end}"):
        return "its recipe is not that of its id"
    return None


def is_entry(name: str, entry: Any, files: dict[str, Any]) -> bool:
    """Return whether a name and its entry describe a file inside of the artifact, which is not also a folder."""
    path = PurePosixPath(name)
    is_inside = path.as_posix() == name and path.name and not path.is_absolute() and ".." not in path.parts
    is_folder = any(parent.as_posix() in files for parent in path.parents)
    types = {key: type(value) for key, value in entry.items()} if isinstance(entry, dict) else {}
    return bool(is_inside and not is_folder and name.isprintable()) and types == {"size": int, "sha256": str}


def find_difference(path: Path, entry: dict[str, Any]) -> str | None:
    """Return how a file differs from a manifest's entry; None if it does not."""
    try:
        if (size := path.stat().st_size) != entry["size"]:
            return f"has {size} bytes instead of {entry['size']}"
        return None if hash_file(path) == entry["sha256"] else "has another content than was written"
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except OSError as error:
        return f"can't be read ({error.strerror})"


def hash_file(path: Path) -> str:
    """Return the hex SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change a result."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


@cache
def git_commit() -> str | None:
    """Return the commit of this code's checkout, with `-dirty` if files differ; None outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--match", ""]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a kill or a power cut leaves no part of one; for one process at a time."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, "utf-8")
    sync(partial)
    partial.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some network file systems can't sync folders
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Wait until everything in a folder is on the disk."""
    for path in (*folder.rglob("*"), folder):
        sync(path)
