"""How a command is asked to stop: a stage in training writes a checkpoint first, everything else stops at once."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from sacpo_exp.errors import Interrupted

log = logging.getLogger(__name__)


class Stop(Protocol):
    """Whether an end was asked for, and whether training is under way, so that it is worth to wait for a checkpoint."""

    def is_asked(self) -> bool: ...

    def set_training(self, is_training: bool, update_seconds: float = 0) -> None: ...


class SignalledStop:
    """Asked for by a signal to this process, `signum`."""

    signum: int | None = None
    is_training = False

    def is_asked(self) -> bool:
        return self.signum is not None

    def set_training(self, is_training: bool, update_seconds: float = 0) -> None:  # noqa: ARG002
        self.is_training = is_training


class StopFile:
    """Asked for by a file: how a command asks its workers, which a signal would kill inside a collective operation."""

    def __init__(self, folder: Path) -> None:
        self._stop, self._training = folder / "stop", folder / "training"

    def ask(self) -> None:
        self._stop.touch()

    def is_asked(self) -> bool:
        return self._stop.exists()

    def update_seconds(self) -> float | None:
        """Return how long the longest update of the present training took; None if nothing is being trained."""
        with suppress(FileNotFoundError):
            return float(self._training.read_text("utf-8") or 0)
        return None

    def set_training(self, is_training: bool, update_seconds: float = 0) -> None:
        if is_training:
            self._training.write_text(str(update_seconds), "utf-8")
        else:
            self._training.unlink(missing_ok=True)

    def clear(self) -> None:
        self._stop.unlink(missing_ok=True)
        self.set_training(False)


def hear_ends() -> None:
    """Let SIGTERM and SIGHUP raise Interrupted, as SIGINT raises KeyboardInterrupt, unless they are ignored (nohup)."""
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) == signal.SIG_DFL:
            signal.signal(signum, _end)


def _end(signum: int, _: Any) -> None:
    _leave_terminal()
    raise Interrupted(signum)


def _leave_terminal() -> None:
    """Discard further output to a terminal that was closed, since an error of writing would prevent the checkpoint."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


@contextmanager
def catching_stops() -> Iterator[SignalledStop]:
    """Catch SIGTERM (a preemption), SIGHUP (the terminal is gone), SIGINT (Ctrl-C) and, under submitit, SIGUSR2.

    During training the first signal is only noted; the trainer ends soon, and the signal's earlier handler is called at
    the end of the block. Otherwise, or at the second signal, it is called at once.

    Raises:
        Interrupted: the process was asked to stop.
    """
    stop = SignalledStop()
    earlier: dict[int, Any] = {}

    def note(signum: int, _: Any) -> None:
        _leave_terminal()
        if stop.is_asked() or not stop.is_training:
            _pass_on(signum, earlier[signum])
        stop.signum = signum
        log.info("stops    on %s, after a checkpoint; a second one stops at once", signal.Signals(signum).name)

    if threading.current_thread() is threading.main_thread():
        for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR2):
            handler = signal.getsignal(signum)
            # ignored signals (nohup) stay so, and submitit alone handles SIGUSR2
            if callable(handler) or (handler == signal.SIG_DFL and signum != signal.SIGUSR2):
                earlier[signum] = signal.signal(signum, note)
    try:
        yield stop
    finally:
        for caught, handler in earlier.items():
            signal.signal(caught, handler)
    if stop.signum is not None:
        _pass_on(stop.signum, earlier[stop.signum])


def _pass_on(signum: int, handler: Any) -> None:
    """Call the signal's earlier handler, then end, even if that would go on (submitit ignores SIGTERM)."""
    if callable(handler) and handler is not signal.default_int_handler:
        handler(signum, None)
    raise Interrupted(signum)
