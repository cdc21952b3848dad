"""Errors that a user can act on, and the hook that turns them into one message and an exit code."""

import errno
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn


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


class LaunchError(SacpoError):
    """A worker could not be started, or died."""


class DivergedError(SacpoError):
    """The training loss is no longer a finite number."""

    exit_code = 3


def print_error(error: SacpoError) -> None:
    """Print a message for the user; of several problems each on a line of its own."""
    for problem in error.problems if isinstance(error, ConfigError) else [str(error)]:
        print(f"error: {problem}", file=sys.stderr)


def exit_with(error: BaseException) -> NoReturn:
    """Print `error` for a person and leave with its exit code; anything unforeseen keeps its traceback."""
    if isinstance(error, SacpoError):
        print_error(error)
        sys.exit(error.exit_code)
    if isinstance(error, KeyboardInterrupt):
        print("interrupted: what was finished is stored; the same command goes on from there", file=sys.stderr)
        sys.exit(130)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = error.filename or "the output folder"
        print(
            f"error: no space left on the device while writing {where}. What was finished is stored; free some space "
            "(`python -m sacpo_exp.store prune` lists what can go) and run the same command again.",
            file=sys.stderr,
        )
        sys.exit(1)
    raise error


def run_reporting_errors(command: Callable[[], None]) -> None:
    """Run `command`; a `SacpoError` becomes a message and an exit code instead of a traceback."""
    try:
        command()
    except (Exception, KeyboardInterrupt) as error:
        exit_with(error)
