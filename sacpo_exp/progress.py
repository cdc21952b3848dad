"""Progress of long work: one live bar on a terminal, a line at the start and every 30 seconds in a log."""

import logging
import sys
import time
from typing import Any

from tqdm import tqdm

log = logging.getLogger(__name__)

#: Seconds between the lines in a log.
INTERVAL = 30.0


class Progress:
    """Counts finished items of `total`; a context manager. With `title` None nothing is shown."""

    def __init__(self, total: int, title: str | None, unit: str, done: int = 0) -> None:
        self.n = done
        self._total, self._title, self._unit = total, title, unit
        self._first, self._start = done, time.monotonic()
        self._logged = self._start - INTERVAL  # the first line comes with the first update
        self._bar: tqdm[Any] | None = None
        if title is not None and sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=done, desc=title, unit=unit, mininterval=0.5)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, count: int = 1, note: str = "") -> None:
        """Add finished items; `note` is shown beside their number."""
        self.n += count
        now = time.monotonic()
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)
        elif self._title is not None and now - self._logged >= INTERVAL:
            self._logged = now
            seconds = (self._total - self.n) * (now - self._start) / max(1, self.n - self._first)
            text = f"{self.n} of {self._total} {self._unit}s, {tqdm.format_interval(seconds)} left"
            log.info("progress %s: %s%s", self._title, text, note and f", {note}")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
