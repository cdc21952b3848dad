"""How a command is asked to stop: a stage under way writes a checkpoint first, everything else stops at once."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from sacpo_exp.errors import Interrupted

log = logging.getLogger(__name__)

STOP, TRAINING = "stop", "training"


class Stop(Protocol):
    """Whether somebody asked for an end, and a place to say that waiting for a checkpoint is worth it."""

    def is_asked(self) -> bool: ...

    def set_training(self, is_training: bool) -> None: ...


class SignalledStop:
    """Asked for by a signal to this process; `signum` says which."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._is_training = False

    def is_asked(self) -> bool:
        return self.signum is not None

    def is_training(self) -> bool:
        return self._is_training

    def set_training(self, is_training: bool) -> None:
        self._is_training = is_training


class StopFile:
    """Asked for by a file: how a command asks its workers, whom a signal would kill inside a collective operation."""

    def __init__(self, folder: Path) -> None:
        self._stop, self._training = folder / STOP, folder / TRAINING

    def ask(self) -> None:
        self._stop.touch()

    def is_asked(self) -> bool:
        return self._stop.exists()

    def is_training(self) -> bool:
        return self._training.exists()

    def set_training(self, is_training: bool) -> None:
        if is_training:
            self._training.touch()
        else:
            self._training.unlink(missing_ok=True)

    def clear(self) -> None:
        self._stop.unlink(missing_ok=True)
        self._training.unlink(missing_ok=True)


def hear_ends() -> None:
    """Have SIGTERM and SIGHUP raise Interrupted, as SIGINT raises KeyboardInterrupt, unless ignored (nohup)."""
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) == signal.SIG_DFL:
            signal.signal(signum, _end)


def _end(signum: int, _: Any) -> None:
    _leave_terminal()
    raise Interrupted(signum)


def _leave_terminal() -> None:
    """Discard further output to a terminal that has hung up, where an error of writing would prevent the checkpoint."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


@contextmanager
def catching_stops() -> Iterator[SignalledStop]:
    """Note SIGTERM (a preemption), SIGHUP (the terminal is gone) and SIGINT (Ctrl-C); SIGUSR2 where somebody listens to
    it, as submitit does.

    While training is said to be under way the first signal is only noted; whoever trains ends soon, and what the signal
    did before is done at the end of the block. Otherwise, or at the second signal, it is done at once.

    Raises:
        Interrupted: the process was asked to stop.
    """
    stop = SignalledStop()
    earlier: dict[int, Any] = {}

    def note(signum: int, _: Any) -> None:
        _leave_terminal()
        if stop.is_asked() or not stop.is_training():
            _pass_on(signum, earlier[signum])
        stop.signum = signum
        log.info("stops    on %s, after a checkpoint; a second one stops at once", signal.Signals(signum).name)

    if threading.current_thread() is threading.main_thread():
        for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR2):
            handler = signal.getsignal(signum)
            is_heard = callable(handler) or (handler == signal.SIG_DFL and signum != signal.SIGUSR2)
            if is_heard:  # what is ignored (nohup) stays so
                earlier[signum] = signal.signal(signum, note)
    try:
        yield stop
    finally:
        for heard, handler in earlier.items():
            signal.signal(heard, handler)
    if stop.signum is not None:
        _pass_on(stop.signum, earlier[stop.signum])


def _pass_on(signum: int, handler: Any) -> None:
    """What the signal did before; then an end, also where that was to go on (submitit lets SIGTERM pass)."""
    if callable(handler) and handler is not signal.default_int_handler:
        handler(signum, None)
    raise Interrupted(signum)
