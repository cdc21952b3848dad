"""Errors that a user can act on, and how they become one message and an exit code."""

import errno
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

#: What to do about a file that can't be written or read, by error number.
FREE = "free some space (`sacpo store prune` lists what can go)"
MOVE = "choose a folder that can be written to (`paths.outputs=DIR`)"
REMEDIES = {errno.ENOSPC: FREE, errno.EDQUOT: FREE, errno.EFBIG: "raise the limit of a file's size (`ulimit -f`)"}
REMEDIES |= dict.fromkeys((errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENAMETOOLONG), MOVE)
#: Texts of safetensors and torch for the same, which hide the error number; torch's is for any failed write.
TEXTS = {os.strerror(number): number for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)}
UNKNOWN_NUMBER = 0
TEXTS["enforce fail at inline_container.cc"], REMEDIES[UNKNOWN_NUMBER] = UNKNOWN_NUMBER, FREE


class SacpoError(Exception):
    """Base of all errors with a message for the user; shown without a traceback."""

    exit_code = 1


class ConfigError(SacpoError):
    """The configuration or the command line is wrong; `problems` has everything found, not only the first."""

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class DataError(SacpoError):
    """Data given by the user can't be read or has the wrong form."""

    exit_code = 2


class MissingArtifactError(SacpoError):
    """An artifact that this command needs has not been made yet."""

    exit_code = 2


class StoreError(SacpoError):
    """A stored artifact is damaged, or the store can't be written."""


class MirrorError(StoreError):
    """The mirror of the store can't be reached or failed; nothing is lost by it."""


class JudgeError(SacpoError):
    """A judge gave up or was stopped; its verdicts so far are kept."""


class LedgerError(SacpoError):
    """The ledger of judgments is damaged, or can't be written."""


class LaunchError(SacpoError):
    """A worker could not be started, or died."""


class DivergedError(SacpoError):
    """The training loss is no longer a finite number."""

    exit_code = 3


class Interrupted(KeyboardInterrupt):
    """This process was asked to stop by the signal `signum`; a sweep ends with it, as with Ctrl-C."""

    def __init__(self, signum: int = signal.SIGINT) -> None:
        super().__init__(signum)
        self.signum = signum


def print_error(error: SacpoError) -> None:
    """Print a message for the user; several problems on a line each."""
    for problem in error.problems if isinstance(error, ConfigError) else [str(error)]:
        print(f"error: {problem}", file=sys.stderr)


def known_error(error: BaseException | None) -> SacpoError | None:
    """Return `error` if it has a message for the user, or a StoreError if the file system caused it; else None."""
    if isinstance(error, SacpoError):
        return error
    while error is not None and not isinstance(error, KeyboardInterrupt):
        if message := _explain_refusal(error):
            return StoreError(message)
        error = error.__cause__ or error.__context__
    return None


def _explain_refusal(error: BaseException) -> str | None:
    """Return a sentence for an error of the file system; None for any other."""
    number = getattr(error, "errno", None)
    if number is None:
        number = next((number for text, number in TEXTS.items() if text in str(error)), None)
    names = [getattr(error, name, None) for name in ("filename", "filename2")]
    files = " and ".join(os.fsdecode(name) for name in names if isinstance(name, str | bytes))
    is_other = not files and number in (errno.EACCES, errno.EPERM)  # of a port or a process, for example
    if number not in REMEDIES or is_other:
        return None
    reason = os.strerror(number) if number else "the disk is full, or files may not grow so large (`ulimit -f`)"
    return (
        f"{files or 'a file of the output folder'}: {reason}. What was finished is stored; "
        f"{REMEDIES[number]} and run the same command again."
    )


def sum_up(error: BaseException) -> dict[str, Any]:
    """Return `message` and `exit_code` of an error for another process; print the traceback of a bug."""
    if known := known_error(error):
        return {"message": str(known), "exit_code": known.exit_code}
    traceback.print_exception(error)
    last = str(error).strip().splitlines()[-1:] or [""]
    return {"message": f"{type(error).__name__}: {last[0]}.".replace("..", "."), "exit_code": SacpoError.exit_code}


def exit_with(error: BaseException) -> NoReturn:
    """Print `error` for a person and leave with its exit code; raise anything unforeseen."""
    if isinstance(error, BrokenPipeError) and _is_stdout_closed():
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    if known := known_error(error):
        print_error(known)
        sys.exit(known.exit_code)
    if isinstance(error, KeyboardInterrupt):
        signum = error.signum if isinstance(error, Interrupted) else signal.SIGINT
        reason = "" if signum == signal.SIGINT else f" by {signal.Signals(signum).name}"
        print(f"interrupted{reason}: what was finished is stored; the same command goes on from there", file=sys.stderr)
        sys.exit(128 + signum)  # as shells have it
    raise error


def _is_stdout_closed() -> bool:
    """Return whether the reader of standard output has gone, as `head` does after some lines."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def run_reporting_errors(command: Callable[[], None]) -> None:
    """Run `command`; a `SacpoError` becomes a message and an exit code instead of a traceback."""
    try:
        command()
        sys.stdout.flush()  # here a full disk behind it can still be reported
    except (Exception, KeyboardInterrupt) as error:
        exit_with(error)
