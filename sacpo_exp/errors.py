"""Errors that a user can act on, and the hook that turns them into one message and an exit code."""

import errno
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

#: What to do about a file that can't be written or read, by what the system says of it.
FREE = "free some space (`sacpo store prune` lists what can go)"
MOVE = "choose a place that can be written to (`paths.outputs=DIR`)"
REMEDIES = {
    errno.ENOSPC: FREE,
    errno.EDQUOT: FREE,
    errno.EFBIG: "raise the limit of a file's size (`ulimit -f`)",
    errno.EIO: MOVE,
    errno.EROFS: MOVE,
    errno.EACCES: MOVE,
    errno.EPERM: MOVE,
    errno.ENOTDIR: MOVE,
    errno.ENAMETOOLONG: MOVE,
}
#: Signs of the same in texts of safetensors and torch, who hide the error's number.
SIGNS = {os.strerror(number): number for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)}
UNTOLD = "enforce fail at inline_container.cc"  # torch's for any write that failed


class SacpoError(Exception):
    """Base of all errors with a message for the user; shown without a traceback."""

    exit_code = 1


class ConfigError(SacpoError):
    """The configuration or the command line is wrong. Holds every problem found, not only the first."""

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class DataError(SacpoError):
    """Data given by the user can't be read or does not have the form that it should."""

    exit_code = 2


class MissingArtifactError(SacpoError):
    """Something that this command needs has not been made yet."""

    exit_code = 2


class StoreError(SacpoError):
    """A stored artifact is damaged, or the store can't be written."""


class MirrorError(StoreError):
    """The mirror of the store can't be reached, or something went wrong on the way; nothing is lost by it."""


class HubError(SacpoError):
    """The Hugging Face hub can't be reached, or fails; what was to be sent lies here."""


class JudgeError(SacpoError):
    """A judge gave up, or was stopped; what it has judged is kept."""


class LedgerError(SacpoError):
    """The ledger of judgments is damaged, or can't be written."""


class LaunchError(SacpoError):
    """A worker could not be started, or died."""


class DivergedError(SacpoError):
    """The training loss is no longer a finite number."""

    exit_code = 3


class Interrupted(KeyboardInterrupt):
    """Somebody asked this process to stop, by `signum`; a sweep ends with it, as with Ctrl-C."""

    def __init__(self, signum: int = signal.SIGINT) -> None:
        super().__init__(signum)
        self.signum = signum


def print_error(error: SacpoError) -> None:
    """Print a message for the user; of several problems each on a line of its own."""
    for problem in error.problems if isinstance(error, ConfigError) else [str(error)]:
        print(f"error: {problem}", file=sys.stderr)


def known_error(error: BaseException | None) -> SacpoError | None:
    """`error` if it has a message for the user, or one for what the file system refused; None if it is unforeseen."""
    if isinstance(error, SacpoError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return None
    while error is not None:
        if said := _explain_refusal(error):
            return StoreError(said)
        error = error.__cause__ or error.__context__
    return None


def _explain_refusal(error: BaseException) -> str | None:
    """A sentence for an error of the file system that has nothing to do with this program."""
    number = getattr(error, "errno", None)
    if number not in REMEDIES:
        if isinstance(error, OSError) and number is not None:
            return None
        number = next((number for sign, number in SIGNS.items() if sign in str(error)), None)
        if number is None and UNTOLD not in str(error):
            return None
    names = [getattr(error, name, None) for name in ("filename", "filename2")]
    place = " and ".join(os.fsdecode(name) for name in names if isinstance(name, str | bytes))
    if not place and number in (errno.EACCES, errno.EPERM):  # of a port or a process, say
        return None
    reason = "the disk is full, or files may not grow so large (`ulimit -f`)" if number is None else os.strerror(number)
    remedy = FREE if number is None else REMEDIES[number]
    place = place or "a file of the output folder"
    return f"{place}: {reason}. What was finished is stored; {remedy} and run the same command again."


def sum_up(error: BaseException) -> dict[str, Any]:
    """`message`, `exit_code` and `is_known` of an error, for another process; one that nobody foresaw leaves its
    traceback on standard error here."""
    if known := known_error(error):
        return {"message": str(known), "exit_code": known.exit_code, "is_known": True}
    traceback.print_exception(error)
    last = str(error).strip().splitlines()[-1:] or [""]
    message = f"{type(error).__name__}: {last[0]}.".replace("..", ".")
    return {"message": message, "exit_code": SacpoError.exit_code, "is_known": False}


def exit_with(error: BaseException) -> NoReturn:
    """Print `error` for a person and leave with its exit code; anything unforeseen keeps its traceback."""
    if isinstance(error, BrokenPipeError) and _is_unread():
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


def _is_unread() -> bool:
    """Whether who reads what is printed has gone, as `head` does when it has seen enough."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def run_reporting_errors(command: Callable[[], None]) -> None:
    """Run `command`; a `SacpoError` becomes a message and an exit code instead of a traceback."""
    try:
        command()
        sys.stdout.flush()  # here, where a full disk behind it can still be told
    except (Exception, KeyboardInterrupt) as error:
        exit_with(error)
