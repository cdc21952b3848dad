"""Real processes that belong together."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from sacpo_exp.cluster.supervision import Member, supervise
from sacpo_exp.errors import Interrupted
from sacpo_exp.stopping import StopFile

SLEEP = "import time; time.sleep(60)"


def member(folder: Path, name: str, code: str) -> Member:
    return Member([sys.executable, "-c", code], os.environ, folder / f"{name}.log")


def test_all_end_well_and_the_first_one_s_log_is_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    members = [member(tmp_path, "0", "print('one')"), member(tmp_path, "1", "print('hidden')")]
    assert supervise(members, StopFile(tmp_path), tmp_path / "0.log", 1) == [0, 0]
    assert capsys.readouterr().err == "one\n"
    assert (tmp_path / "1.log").read_text() == "hidden\n"


def test_one_that_fails_takes_the_others_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sacpo_exp.cluster.supervision.PATIENCE", 0.2)
    members = [member(tmp_path, "0", SLEEP), member(tmp_path, "1", "raise SystemExit(7)")]
    codes = supervise(members, StopFile(tmp_path), tmp_path / "0.log", 1)
    assert codes == [-signal.SIGTERM, 7]  # so that the one that failed can be told from those ended for it


def stop_when(path: Path) -> None:
    """Send this process SIGTERM as soon as a file has been written."""

    def wait() -> None:
        while not path.exists() or not path.read_text():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def test_grandchildren_end_too(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {SLEEP!r}], start_new_session=True)"
    code += f"; open({str(pid)!r}, 'w').write(str(p.pid)); p.wait()"
    stop_when(pid)
    with pytest.raises(Interrupted):
        supervise([member(tmp_path, "0", code)], StopFile(tmp_path), tmp_path / "0.log", 1)
    assert not psutil.pid_exists(int(pid.read_text()))


@pytest.mark.parametrize(("grace", "update"), [(20, 0), (0, 20)])
def test_who_is_training_gets_time_to_end(tmp_path: Path, grace: float, update: float) -> None:
    code = f"""
from pathlib import Path
from sacpo_exp.stopping import StopFile
import time
stop = StopFile(Path({str(tmp_path)!r}))
stop.set_training(True, {update})
Path({str(tmp_path / "begun")!r}).write_text("x")
while not stop.is_asked():
    time.sleep(0.05)
Path({str(tmp_path / "checkpoint")!r}).touch()
"""
    stop_when(tmp_path / "begun")
    with pytest.raises(Interrupted) as caught:
        supervise([member(tmp_path, "0", code)], StopFile(tmp_path), tmp_path / "0.log", grace)
    assert caught.value.signum == signal.SIGTERM
    assert (tmp_path / "checkpoint").exists()


def test_members_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = f"""
import os, sys
from pathlib import Path
from sacpo_exp.cluster.supervision import Member, supervise
from sacpo_exp.stopping import StopFile
folder = Path({str(tmp_path)!r})
code = "import os, time; open({str(tmp_path / "pid")!r}, 'w').write(str(os.getpid())); time.sleep(60)"
supervise([Member([sys.executable, "-c", code], os.environ, folder / "log")], StopFile(folder), folder / "log", 1)
"""
    parent = subprocess.Popen([sys.executable, "-c", code])
    end = time.monotonic() + 20
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < end
        time.sleep(0.05)
    member_pid = int((tmp_path / "pid").read_text())
    parent.kill()
    parent.wait()
    end = time.monotonic() + 5
    while psutil.pid_exists(member_pid):
        assert time.monotonic() < end
        time.sleep(0.05)
