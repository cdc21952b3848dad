"""A stand-in for the hub on loopback: repositories with one branch, served as huggingface_hub asks for them."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loopback import JsonHandler, listen

REPOSITORY = re.compile(r"(?:/api)?(?:/(models|datasets))?/([\w.-]+/[\w.-]+)(?:/(revision|tree|resolve)/(.*))?")


class Hub:
    """Files of repositories, by `models/OWNER/NAME` or `datasets/OWNER/NAME`, and every request so far.

    A commit is a hash of the files; only the present one is known. Files of `gated` repositories are refused.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.requests: list[tuple[str, str]] = []
        self.address = ""

    def add(self, name: str, files: dict[str, bytes] | Path) -> None:
        """Add or replace a repository by files, or by those of a folder."""
        if isinstance(files, Path):
            files = {file.name: file.read_bytes() for file in files.iterdir() if file.is_file()}
        self.repositories[name] = files

    def commit(self, name: str) -> str:
        content = b"".join(
            part for path, data in sorted(self.repositories.get(name, {}).items()) for part in (path.encode(), data)
        )
        return hashlib.sha1(content).hexdigest()

    def count(self, file: str) -> int:
        """Return how often the content of a file was asked for."""
        return sum(method == "GET" and path.endswith(f"/{file}") for method, path in self.requests)


@contextmanager
def serve_hub(hub: Hub) -> Iterator[Hub]:
    """Listen on a free port of loopback."""

    class Handler(JsonHandler):
        def do_GET(self) -> None:
            self.answer()

        def do_HEAD(self) -> None:
            self.answer()

        def refuse(self, status: int, code: str) -> None:
            self.send(status, {"error": code}, {"X-Error-Code": code})

        def answer(self) -> None:
            path = self.path.split("?")[0]
            hub.requests.append((self.command, path))
            match = REPOSITORY.fullmatch(path)
            kind, name, action, rest = match.groups() if match else (None, "", None, "")
            repository = f"{kind or 'models'}/{name}"
            files = hub.repositories.get(repository, {})
            revision, _, file = (rest or "main").partition("/")
            commit = hub.commit(repository)
            if repository not in hub.repositories:
                self.refuse(404, "RepoNotFound")
            elif revision not in ("main", commit):
                self.refuse(404, "RevisionNotFound")
            elif action == "tree":
                self.send(
                    200, [{"type": "file", "path": n, "size": len(d), "oid": hash_blob(d)} for n, d in files.items()]
                )
            elif action != "resolve":
                self.send(200, {"id": name, "modelId": name, "sha": commit, "siblings": []})
            elif repository in hub.gated:
                self.refuse(403, "GatedRepo")
            elif file not in files:
                self.refuse(404, "EntryNotFound")
            else:
                data = files[file]
                self.send(200, data, {"ETag": f'"{hash_blob(data)}"', "X-Repo-Commit": commit})

    with listen(Handler) as hub.address:
        yield hub


def hash_blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
