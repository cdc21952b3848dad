"""What a person sees when something goes wrong, and the exit code that scripts see."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sacpo_exp.errors import (
    ConfigError,
    DataError,
    DivergedError,
    LaunchError,
    MissingArtifactError,
    StoreError,
    run_reporting_errors,
    sum_up,
)

CODES = {ConfigError: 2, DataError: 2, MissingArtifactError: 2, DivergedError: 3, StoreError: 1, LaunchError: 1}


def end_with(error: BaseException) -> int:
    """Exit code of a command that raises this error."""

    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        run_reporting_errors(command)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_errors_have_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    for kind, code in CODES.items():
        assert end_with(kind("what is wrong.")) == code
        assert capsys.readouterr() == ("", "error: what is wrong.\n")


def test_every_problem_of_a_configuration_and_an_interrupt_get_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert end_with(ConfigError(["first.", "second."])) == 2
    assert capsys.readouterr().err == "error: first.\nerror: second.\n"
    assert end_with(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err.startswith("interrupted: what was finished is stored; the same command goes on")


def wrapped(error: Exception) -> Exception:
    outer = RuntimeError("could not write")
    outer.__cause__ = error
    return outer


REFUSED = {
    "full disk": (OSError(errno.ENOSPC, "No space left on device", "outputs/store/x"), "outputs/store/x", "prune"),
    "as a cause": (wrapped(OSError(errno.ENOSPC, "No space left on device", "x")), "x", "prune"),
    "quota": (OSError(errno.EDQUOT, "Disk quota exceeded", b"outputs/x"), "outputs/x", "prune"),
    "file size": (OSError(errno.EFBIG, "File too large"), "File too large", "ulimit -f"),
    "denied": (PermissionError(errno.EACCES, "Permission denied", "outputs/x"), "outputs/x", "paths.outputs="),
    "safetensors": (RuntimeError("I/O error: No space left on device (os error 28)"), "No space", "prune"),
    "its limit": (RuntimeError("I/O error: File too large (os error 27)"), "File too large", "ulimit -f"),
    "torch": (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 70784 vs 70672"), "", "prune"),
}


@pytest.mark.parametrize(("error", "place", "remedy"), REFUSED.values(), ids=list(REFUSED))
def test_a_refused_write_is_told(error: Exception, place: str, remedy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert end_with(error) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert place in line
    assert remedy in line
    assert sum_up(error) == {"message": line.removeprefix("error: "), "exit_code": 1}


def test_a_file_that_grows_beyond_the_limit_is_one_sentence(repo: Path, tmp_path: Path) -> None:
    program = (
        "from pathlib import Path\nfrom sacpo_exp.errors import run_reporting_errors\n"
        "run_reporting_errors(lambda: Path('big').write_bytes(bytes(10_000)) and None)"
    )
    command = ["bash", "-c", f'ulimit -f 4; exec "{sys.executable}" -c "$0"', program]
    environment = os.environ | {"PYTHONPATH": str(repo)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)


@pytest.mark.parametrize("error", [ValueError("bug"), FileNotFoundError(errno.ENOENT, "x")], ids=["bug", "no file"])
def test_what_was_not_foreseen_keeps_its_traceback(error: Exception) -> None:
    def command() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        run_reporting_errors(command)
    assert caught.value is error
