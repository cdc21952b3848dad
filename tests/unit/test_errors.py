"""What a person sees when something goes wrong, and the exit code that scripts see."""

import errno

import pytest

from sacpo_exp.errors import (
    ConfigError,
    DataError,
    DivergedError,
    LaunchError,
    MissingArtifactError,
    SacpoError,
    StoreError,
    run_reporting_errors,
)

CODES = {
    ConfigError: 2,
    DataError: 2,
    MissingArtifactError: 2,
    DivergedError: 3,
    StoreError: 1,
    LaunchError: 1,
    SacpoError: 1,
}


def end_with(error: BaseException) -> int:
    """Exit code of a command that raises this error."""

    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        run_reporting_errors(command)
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.mark.parametrize(("kind", "code"), CODES.items(), ids=[kind.__name__ for kind in CODES])
def test_errors_for_the_user_are_one_line_and_an_exit_code(
    capsys: pytest.CaptureFixture[str], kind: type[SacpoError], code: int
) -> None:
    assert end_with(kind("what is wrong.")) == code
    assert capsys.readouterr() == ("", "error: what is wrong.\n")


def test_every_problem_of_a_configuration_gets_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert end_with(ConfigError(["first.", "second."])) == 2
    assert capsys.readouterr().err == "error: first.\nerror: second.\n"


def test_an_interrupt_says_that_nothing_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    assert end_with(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == (
        "interrupted: what was finished is stored; the same command goes on from there\n"
    )


def wrapped(error: Exception) -> Exception:
    outer = RuntimeError("could not write")
    outer.__cause__ = error
    return outer


FULL_DISK = {
    "system": OSError(errno.ENOSPC, "No space left on device", "outputs/store/x"),
    "as a cause": wrapped(OSError(errno.ENOSPC, "No space left on device")),
    "safetensors": RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    "torch": RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 70784 vs 70672"),
}


@pytest.mark.parametrize("error", FULL_DISK.values(), ids=list(FULL_DISK))
def test_a_full_disk_says_what_to_do(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert end_with(error) == 1
    assert capsys.readouterr().err == (
        "error: no space left on the device of the output folder. What was finished is stored; free some space "
        "(`python -m sacpo_exp.store prune` lists what can go) and run the same command again.\n"
    )


@pytest.mark.parametrize("error", [ValueError("bug"), OSError(errno.EACCES, "denied")], ids=["bug", "other OS error"])
def test_what_was_not_foreseen_keeps_its_traceback(error: Exception) -> None:
    def command() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        run_reporting_errors(command)
    assert caught.value is error


def test_a_command_that_goes_well_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    run_reporting_errors(lambda: None)
    assert capsys.readouterr() == ("", "")
