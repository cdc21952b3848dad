"""A second place for artifacts that several machines reach: one uploads what it has made, the others download it.

`<address>/<kind>/<id>/manifest.json` makes an artifact visible. Its files lie beside it in a folder named by the hash
of their hashes, so that the next upload continues one that was cut, and two machines that upload the same artifact at
the same moment (rounded differently, perhaps) never mix their files.
"""

import functools
import logging
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sacpo_exp.config.environment import DOTENV, check_mirror
from sacpo_exp.errors import ConfigError, MirrorError, StoreError
from sacpo_exp.store.identity import KINDS, content_hash, hash_of, is_id
from sacpo_exp.store.manifest import NAME, Manifest, find_difference

log = logging.getLogger(__name__)

S3: Final = ("s3", "s3a")
KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
MISSING: Final = (FileNotFoundError, NotADirectoryError)
PART: Final = f".{platform.node()}.part"


class Remote:
    """Files below an address of fsspec, by relative path.

    Raises:
        ConfigError: fsspec does not know the address, or lacks a package for it.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._scheme = url.split("://")[0]
        try:
            self._root = self._open()[1].rstrip("/")
        except ImportError as error:
            package = "sacpo_exp[s3]" if self._scheme in S3 else self._scheme
            raise ConfigError(f"the mirror {url} needs a package ({error}). Try: pip install '{package}'") from error
        except ValueError as error:
            raise ConfigError(f"the mirror {url} is of no known kind: {error}. Try: s3:// or file://") from error

    def check(self) -> None:
        """Ask the server one question, so that a mistake is known before any work is done.

        Raises:
            ConfigError: the bucket is missing, or the environment gives no right to it.
            MirrorError: no answer.
        """
        try:
            if self._scheme in S3:
                bucket, _, prefix = self._root.partition("/")
                self._files.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
            else:
                self._files.exists(self._root)
        except Exception as error:
            if isinstance(error, FileNotFoundError):
                text = f"the mirror {self.url} is not there: {describe(error)}. Create the bucket."
            elif isinstance(error, PermissionError) or _is_mistake(error):
                text = f"the mirror {self.url} can't be used: {describe(error)}."
                if self._scheme in S3:
                    text += f" {KEYS[0]} and {KEYS[1]} are read from the environment or a {DOTENV} file here."
            else:
                raise MirrorError(f"{self.url} can't be reached: {describe(error)}") from error
            raise ConfigError(text) from error

    def read(self, path: str) -> bytes | None:
        """Return a small file's content; None if it is missing."""
        with self._explained(f"{path} can't be read"), suppress(*MISSING):
            return bytes(self._files.cat_file(self._at(path)))
        return None

    def get(self, path: str, target: Path) -> None:
        """Write a file to `target`, unless it is missing."""
        with self._explained(f"{path} can't be downloaded"), suppress(*MISSING):
            self._files.get_file(self._at(path), str(target))

    def put(self, source: Path, path: str) -> None:
        """Upload a file; it appears under its name when it is whole."""
        with self._explained(f"{path} can't be uploaded"):
            target = self._at(path)
            if self._scheme in S3:  # where a file appears when its last byte has arrived, and folders need not be made
                self._files.put_file(str(source), target)
                return
            self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(source), target + PART)
            self._files.mv(target + PART, target)

    def sizes(self, path: str) -> dict[str, int]:
        """Return the bytes of all files below `path`, by path relative to it."""
        with self._explained(f"{path} can't be listed"):
            self._files.invalidate_cache()
            entries = self._files.find(self._at(path), detail=True)
            return {name.removeprefix(self._at(path) + "/"): entry["size"] for name, entry in entries.items()}

    def names(self, path: str) -> list[str]:
        """Return the names of what lies directly below `path`."""
        with self._explained(f"{path} can't be listed"), suppress(*MISSING):
            self._files.invalidate_cache()
            return sorted(name.rstrip("/").rpartition("/")[2] for name in self._files.ls(self._at(path), detail=False))
        return []

    @property
    def _files(self) -> Any:
        """The file system, one per process in fsspec; asked anew each time, since it must not cross a fork."""
        return self._open()[0]

    def _open(self) -> tuple[Any, str]:
        """Return the file system and the path in it."""
        import fsspec.core  # late, so that commands without a mirror do not wait for it

        options: dict[str, Any] = {}
        if self._scheme in S3:
            # s3fs itself asks five times; a server that never answers delays a run by minutes, not by hours.
            options["config_kwargs"] = {"connect_timeout": 10, "read_timeout": 30, "retries": {"max_attempts": 1}}
            options["endpoint_url"] = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
            options["use_listings_cache"] = False  # it would hide what others upload
        files, root = fsspec.core.url_to_fs(self.url, **options)
        return files, str(root)

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}".rstrip("/")

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Turn any error into a MirrorError: the libraries behind fsspec have no error class in common."""
        try:
            yield
        except Exception as error:
            raise MirrorError(f"{self.url}: {what}: {describe(error)}") from error


def _is_mistake(error: Exception) -> bool:
    """Return whether an error of botocore is the user's: no credentials, no such name, no such region."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    is_network = kinds & {"HTTPClientError", "ConnectionError", "IncompleteReadError"}
    return isinstance(error, ValueError) or ("BotoCoreError" in kinds and not is_network)


def describe(error: BaseException) -> str:
    """Return an error in one line, without any key."""
    text = re.sub(r"\s+", " ", str(error)).strip() or "no reason given"
    for name in KEYS:
        if secret := os.environ.get(name):
            text = text.replace(secret, "…")
    return f"{type(error).__name__}, {text[:200]}".rstrip(".")


class Mirror:
    """Artifacts in a remote place.

    Attributes:
        is_down: whether it was out of reach when last asked; then it is not asked again, but uploads are tried.
    """

    def __init__(self, remote: Remote) -> None:
        self.url = remote.url
        self.is_down = False
        self._remote = remote
        self._listed: dict[str, dict[str, str]] = {}  # by kind and hash

    def lose(self, error: MirrorError) -> None:
        """Treat the mirror as out of reach from now on, with one warning however many artifacts are made meanwhile."""
        if not self.is_down:
            log.warning("mirror   %s; what is made stays here, `sacpo store push` sends it", error)
        self.is_down = True

    def find(self, kind: str, artifact_id: str) -> Manifest | None:
        """Return the manifest of an artifact that is there whole, under this slug or another one.

        Raises:
            MirrorError: no answer.
            StoreError: the manifest was damaged, or belongs to something else.
        """
        path = f"{kind}/{artifact_id}/{NAME}"
        text = self._remote.read(path)
        if text is None:  # perhaps under another slug
            if kind not in self._listed:
                self._listed[kind] = {hash_of(name): name for name in self._remote.names(kind)}
            other = self._listed[kind].get(hash_of(artifact_id), artifact_id)
            return self.find(kind, other) if other != artifact_id else None
        try:
            manifest = Manifest.parse(text, path)
        except StoreError as error:
            raise self._refuse(kind, artifact_id, str(error)) from error
        if (manifest.kind, manifest.id) != (kind, artifact_id):
            raise self._refuse(kind, artifact_id, "its manifest describes something else")
        return manifest

    def _refuse(self, kind: str, artifact_id: str, problem: str) -> StoreError:
        return StoreError(
            f"{self.url}: the copy of {kind}/{artifact_id} is refused: {problem}. If it is refused again, remove "
            f"{self.url}/{kind}/{artifact_id}; the next command that has or makes it uploads it."
        )

    def fetch(self, kind: str, artifact_id: str, folder: Path) -> Manifest | None:
        """Download an artifact into `folder`, every file checked by its hash; return None if it is missing.

        Files of a download that was cut are used.

        Raises:
            MirrorError: no answer, or cut on the way.
            StoreError: a file is not what was uploaded.
        """
        manifest = self.find(kind, artifact_id)
        if manifest is None:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.rglob("*"):  # perhaps of another machine's upload
            if path.is_file() and path.relative_to(folder).as_posix() not in manifest.files:
                path.unlink()
        for name, entry in manifest.files.items():
            target = folder / name
            if not find_difference(target, entry):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            self._remote.get(f"{_files_folder(kind, manifest)}/{name}", target)
            if problem := find_difference(target, entry):
                raise self._refuse(kind, artifact_id, f"{name} {problem}")
        manifest.write(folder)
        return manifest

    def upload(self, folder: Path) -> str | None:
        """Upload a finished artifact: its files, then the manifest. None if it is there.

        Returns a text with the number and size of the files that were sent.

        A file there is skipped if its size is right: it lies in a folder named by its hash, it was hashed before it was
        sent, and it appears whole or not at all.

        Raises:
            MirrorError: no answer, or cut on the way; the next upload continues.
            StoreError: a file here is damaged.
        """
        manifest, kind = Manifest.read(folder), folder.parent.name
        if self.find(kind, manifest.id) is not None:
            return None
        target = _files_folder(kind, manifest)
        there = self._remote.sizes(target)
        sent = {name: entry for name, entry in manifest.files.items() if there.get(name) != entry["size"]}
        for name, entry in sent.items():
            if problem := find_difference(folder / name, entry):
                raise StoreError(f"{folder} is damaged: {name} {problem}; it is not uploaded")
            self._remote.put(folder / name, f"{target}/{name}")
        self._remote.put(folder / NAME, f"{kind}/{manifest.id}/{NAME}")
        text = f"{len(sent)} files, {sum(entry['size'] for entry in sent.values()) / 1e6:.1f} MB"
        return text if len(sent) == len(manifest.files) else f"{text}, {len(manifest.files) - len(sent)} were there"

    def list(self) -> Iterator[tuple[str, str]]:
        """Yield (kind, id) of what lies there, whole or not; a name that is no id could be a path to somewhere else."""
        for kind in sorted(KINDS):
            yield from ((kind, name) for name in self._remote.names(kind) if is_id(name))


def _files_folder(kind: str, manifest: Manifest) -> str:
    return f"{kind}/{manifest.id}/files-{content_hash(manifest.files)[:16]}"


@functools.cache
def open_mirror(url: str) -> Mirror:
    """Return the mirror at an address, after one question to it; if there is no answer, with a warning.

    Raises:
        ConfigError: the address, what is installed, the bucket or the credentials are wrong.
    """
    if problems := list(check_mirror(url)):
        raise ConfigError(problems)
    for library in ("aiobotocore", "botocore", "s3fs"):
        logging.getLogger(library).setLevel(logging.WARNING)  # or each start logs where it found its credentials
    remote = Remote(url)
    mirror = Mirror(remote)
    try:
        remote.check()
    except MirrorError as error:
        mirror.lose(error)
    return mirror
