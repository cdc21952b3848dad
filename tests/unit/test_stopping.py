"""Signals to this very process."""

import os
import pty
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sacpo_exp.errors import Interrupted
from sacpo_exp.stopping import catching_stops


@pytest.fixture(autouse=True)
def _listening() -> Iterator[None]:
    """Whoever starts the tests in a shell's background has them ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_outside_of_training_a_signal_ends_at_once() -> None:
    with pytest.raises(Interrupted) as caught, catching_stops():
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("went on")
    assert caught.value.signum == signal.SIGTERM


def test_while_training_the_first_signal_waits_for_the_end_of_the_block() -> None:
    done = []
    with pytest.raises(Interrupted), catching_stops() as stop:
        stop.set_training(True)
        signal.raise_signal(signal.SIGINT)
        assert stop.is_asked()
        done.append("checkpoint")
    assert done == ["checkpoint"]


def test_a_second_signal_does_not_wait() -> None:
    with pytest.raises(Interrupted), catching_stops() as stop:
        stop.set_training(True)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("went on")


def test_who_listened_before_hears_of_it_after_the_checkpoint() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda signum, _: heard.append(signum))
    try:
        with pytest.raises(Interrupted), catching_stops() as stop:
            stop.set_training(True)
            signal.raise_signal(signal.SIGUSR2)
            assert heard == []
        assert heard == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_handlers_are_put_back() -> None:
    signals = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR2)
    before = list(map(signal.getsignal, signals))
    with catching_stops():
        assert signal.getsignal(signal.SIGTERM) is not before[0]
        assert signal.getsignal(signal.SIGUSR2) is before[3]  # nobody listened
    assert list(map(signal.getsignal, signals)) == before


#: Shows progress while it trains, and leaves a checkpoint, in a terminal of its own.
TRAIN_AT_TERMINAL = """
import sys, time
from pathlib import Path
from sacpo_exp.stopping import catching_stops

with catching_stops() as stop:
    stop.set_training(True)
    print("ready", flush=True)
    while not stop.is_asked():
        time.sleep(0.02)
    print("a bar", flush=True)
    Path(sys.argv[1]).touch()
"""


def test_a_terminal_that_hangs_up_leaves_a_checkpoint(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.execv(sys.executable, [sys.executable, "-c", TRAIN_AT_TERMINAL, str(checkpoint)])
    assert os.read(terminal, 100).startswith(b"ready")
    os.close(terminal)
    os.waitpid(pid, 0)
    assert checkpoint.exists()
