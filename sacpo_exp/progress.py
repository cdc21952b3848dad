"""Progress of long work: one live bar on a terminal, a line every 30 seconds in a log."""

import logging
import sys
import time
from typing import Any

from tqdm import tqdm

log = logging.getLogger(__name__)

#: Seconds between the lines in a log.
INTERVAL = 30.0


class Progress:
    """Counts finished items of `total`; use it in a `with` block, or close it. No title, no output."""

    def __init__(self, total: int, title: str | None, unit: str, done: int = 0) -> None:
        self.n = done
        self._total, self._title, self._unit = total, title, unit
        self._first, self._start = done, time.monotonic()
        self._logged = self._start
        self._is_live = title is not None and sys.stderr.isatty()
        self._bar: tqdm[Any] = tqdm(
            total=total, initial=done, desc=title, unit=unit, mininterval=0.5, disable=not self._is_live
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, count: int = 1, note: str = "") -> None:
        """Add finished items; `note` is shown beside the count."""
        self.n += count
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(count)
        now = time.monotonic()
        if self._title is None or self._is_live or now - self._logged < INTERVAL:
            return
        self._logged = now
        left = (self._total - self.n) * (now - self._start) / max(1, self.n - self._first)
        text = f"{self._title}: {self.n} of {self._total} {self._unit}s, {tqdm.format_interval(left)} left"
        log.info("progress %s%s", text, note and f", {note}")

    def close(self) -> None:
        self._bar.close()
