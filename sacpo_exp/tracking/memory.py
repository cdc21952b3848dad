"""What a tracked run has to know again when it goes on after a kill: its group, and ids that a server gave it."""

import json
from contextlib import suppress
from pathlib import Path

from sacpo_exp.store.durable import write_whole

NAME = "tracking.json"


class Memory:
    """Kept in a file of the unfinished artifact, beside its checkpoints, with which it goes.

    Args:
        folder: None keeps nothing.
        is_continued: false forgets what an earlier attempt, from whose checkpoints nothing is taken, has left.
    """

    def __init__(self, folder: Path | None, is_continued: bool) -> None:
        self._path = folder / NAME if folder else None
        self._known: dict[str, str] = {}
        if self._path is not None and is_continued:
            with suppress(OSError, ValueError):  # missing or, after a power cut, not whole
                self._known = dict(json.loads(self._path.read_text("utf-8")))

    def find(self, key: str) -> str | None:
        return self._known.get(key)

    def recall(self, key: str, otherwise: str) -> str:
        """What is kept under `key`; if nothing is, `otherwise`, kept from now on."""
        if key not in self._known:
            self._known[key] = otherwise
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(self._path, json.dumps(self._known))
        return self._known[key]
