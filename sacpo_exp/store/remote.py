"""Files at an address of fsspec: the only place that knows how object stores and folders differ."""

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sacpo_exp.config.environment import DOTENV
from sacpo_exp.errors import ConfigError, MirrorError

#: Stores in which a file appears when its last byte has arrived, and that have no folders to be made.
OBJECT_STORES: Final = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
S3: Final = ("s3", "s3a")
#: Packages that fsspec wants for an address, and our extra that has them.
EXTRAS: Final = {"s3": "sacpo_exp[s3]", "s3a": "sacpo_exp[s3]"}
KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
PART: Final = f".{platform.node()}.part"


class Remote:
    """Files below `url`, by relative path.

    Raises:
        ConfigError: nothing that fsspec knows, or knows with what is installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._scheme = url.split("://")[0]
        try:
            self._root = self._open()[1].rstrip("/")
        except ImportError as error:
            package = EXTRAS.get(self._scheme, self._scheme)
            raise ConfigError(f"the mirror {url} needs a package ({error}). Try: pip install '{package}'") from error
        except ValueError as error:
            raise ConfigError(f"the mirror {url} is of no known kind: {error}. Try: s3:// or file://") from error

    def check(self) -> None:
        """One question to the server, so that a mistake is known before any work is done.

        Raises:
            ConfigError: the bucket is missing, or the environment gives no right to it.
            MirrorError: nobody answers.
        """
        try:
            if self._scheme in S3:
                bucket, _, prefix = self._root.partition("/")
                self._fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
            else:
                self._fs.exists(self._root)
                self._check_folder()
        except FileNotFoundError as error:
            raise ConfigError(f"the mirror {self.url} is not there: {describe(error)}. Create the bucket.") from error
        except PermissionError as error:
            raise ConfigError(self._forbidden(error)) from error
        except Exception as error:
            if is_mistake(error):
                raise ConfigError(self._forbidden(error)) from error
            raise MirrorError(f"{self.url} can't be reached: {describe(error)}") from error

    def read(self, path: str) -> bytes | None:
        """A small file's content; None if it is not there."""
        with self._told(f"{path} can't be read"):
            try:
                content: bytes = self._fs.cat_file(self._at(path))
            except (FileNotFoundError, NotADirectoryError):
                return None
            return content

    def get(self, path: str, target: Path) -> bool:
        """Write a file to `target`; False if it is not there."""
        with self._told(f"{path} can't be downloaded"):
            try:
                self._fs.get_file(self._at(path), str(target))
            except FileNotFoundError:
                return False
            return True

    def put(self, source: Path, path: str) -> None:
        """Upload a file; it appears under its name when it is whole."""
        with self._told(f"{path} can't be uploaded"):
            place = self._at(path)
            if self._scheme in OBJECT_STORES:
                self._fs.put_file(str(source), place)
                return
            self._fs.makedirs(place.rpartition("/")[0], exist_ok=True)
            self._fs.put_file(str(source), place + PART)
            self._fs.mv(place + PART, place)

    def sizes(self, path: str) -> dict[str, int]:
        """Bytes of all files below `path`, by path relative to it."""
        with self._told(f"{path} can't be listed"):
            self._fs.invalidate_cache()
            found = self._fs.find(self._at(path), detail=True)
            return {name.removeprefix(self._at(path) + "/"): entry["size"] for name, entry in found.items()}

    def names(self, path: str = "") -> list[str]:
        """What lies directly below `path`."""
        with self._told("can't be listed"):
            self._fs.invalidate_cache()
            try:
                found = self._fs.ls(self._at(path), detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
            return sorted(name.rstrip("/").rpartition("/")[2] for name in found)

    @property
    def _fs(self) -> Any:
        """fsspec keeps one per process; asked anew each time, since it may not cross a fork."""
        return self._open()[0]

    def _open(self) -> tuple[Any, str]:
        """The file system and the path in it."""
        import fsspec.core  # here, so that who has no mirror does not wait for it

        files, root = fsspec.core.url_to_fs(self.url, **self._options())
        return files, str(root)

    def _options(self) -> dict[str, Any]:
        if self._scheme not in S3:
            return {}
        # s3fs itself asks five times; a server that never answers holds a run up for minutes, not for hours.
        config = {"connect_timeout": 10, "read_timeout": 30, "retries": {"max_attempts": 1}}
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
        # Without the cache of listings, which would hide what others upload.
        return {"use_listings_cache": False, "config_kwargs": config, "endpoint_url": endpoint}

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}".rstrip("/")

    def _check_folder(self) -> None:
        """Raises PermissionError if a folder of this machine could not be made, or is none."""
        if self._scheme not in ("file", "local"):
            return
        folder = Path(self._root)
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
        if not nearest.is_dir():
            raise PermissionError(f"{nearest} is no folder")
        if nearest != folder and not os.access(nearest, os.W_OK):
            raise PermissionError(f"{nearest} can't be written")

    def _forbidden(self, error: Exception) -> str:
        text = f"the mirror {self.url} can't be used: {describe(error)}."
        if self._scheme in S3:
            text += f" {KEYS[0]} and {KEYS[1]} are read from the environment or a {DOTENV} file here."
        return text

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Any trouble as one error: the libraries behind fsspec have no class of errors in common."""
        try:
            yield
        except Exception as error:
            raise MirrorError(f"{self.url}: {what}: {describe(error)}") from error


def is_mistake(error: Exception) -> bool:
    """Whether an error of botocore is about what the user gave it: no credentials, no such name, no such region."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    is_network = kinds & {"HTTPClientError", "ConnectionError", "IncompleteReadError"}
    return isinstance(error, ValueError) or ("BotoCoreError" in kinds and not is_network)


def describe(error: BaseException) -> str:
    """An error in one line without any key."""
    text = re.sub(r"\s+", " ", str(error)).strip() or "no reason given"
    for name in KEYS:
        if secret := os.environ.get(name):
            text = text.replace(secret, "…")
    return f"{type(error).__name__}, {text[:200]}".rstrip(".")
