"""Progress on a terminal and in a log."""

import fcntl
import logging
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from sacpo_exp.progress import Progress

WORK = """
import logging, sys, time
from sacpo_exp.progress import Progress
logging.basicConfig(level=logging.INFO, format="%(message)s")
with Progress(50, "helpfulness stage", "update") as progress:
    for number in range(50):
        time.sleep(0.005)
        progress.update(note=f"loss {number}")
"""


def test_a_log_gets_a_line_per_interval(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.INFO)
    with Progress(50, "helpfulness stage", "update", done=10) as progress:
        for _ in range(40):
            progress.update(note="loss 0.693")
    assert [message.split(",")[0] for message in caplog.messages] == ["progress helpfulness stage: 11 of 50 updates"]
    assert caplog.messages[0].endswith(" left, loss 0.693")
    monkeypatch.setattr("sacpo_exp.progress.INTERVAL", 0.0)
    with Progress(3, "judge", "judgment") as progress, Progress(3, None, "response") as silent:
        for _ in range(3):
            progress.update()
            silent.update()
    assert len(caplog.messages) == 4


def test_a_terminal_gets_one_live_bar() -> None:
    terminal, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    subprocess.run([sys.executable, "-c", WORK], stderr=child, stdout=child, check=True)
    os.close(child)
    shown = os.read(terminal, 100_000).decode()
    assert "helpfulness stage: 100%" in shown
    assert "50/50" in shown
    assert "progress " not in shown  # the lines of a log
    assert shown.count("\n") == 1
