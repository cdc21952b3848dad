"""The manifest of an artifact: what it is made from, what came out, and the hashes of its files."""

import hashlib
import json
import platform
import subprocess
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from sacpo_exp.errors import StoreError
from sacpo_exp.store.durable import write_whole
from sacpo_exp.store.identity import SCHEMA_VERSION, ArtifactSpec

NAME = "manifest.json"
#: Folder of an unfinished artifact for what a killed build goes on from; no part of the artifact.
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
        """Raises StoreError if the manifest of `folder` is missing or was damaged."""
        try:
            return cls.parse((folder / NAME).read_bytes(), str(folder / NAME))
        except OSError as error:
            raise StoreError(f"{folder / NAME} is missing or damaged ({type(error).__name__})") from error

    @classmethod
    def parse(cls, text: bytes, place: str) -> "Manifest":
        """Raises StoreError if the text of the manifest at `place` was damaged."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise StoreError(f"{place} is missing or damaged ({type(error).__name__})") from error

    def write(self, folder: Path) -> None:
        """Write `folder/manifest.json` and make sure that it is on the disk."""
        write_whole(folder / NAME, json.dumps(asdict(self), indent=1, sort_keys=True))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry["size"] for entry in self.files.values())


def make_manifest(spec: ArtifactSpec, folder: Path, metrics: dict[str, Any], created: str, seconds: float) -> Manifest:
    """The manifest of the finished files in `folder`."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != NAME)
    files = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": hash_file(path)}
        for path in paths
        if not path.is_relative_to(folder / SCRATCH)
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


def hash_file(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a result."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def git_commit() -> str | None:
    """Commit of the checkout that this code runs from, with `-dirty` where files differ; None outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--match", ""]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
