"""Runs `sacpo` commands in forks of one process that has imported what all of them import, which saves each its start.

Reads lines of JSON (see `cli` in conftest.py) and answers each with the exit code.
"""

import importlib
import json
import os
import sys
from typing import Any

from sacpo_exp.__main__ import COMMANDS
from sacpo_exp.__main__ import main as sacpo

#: What `--help`, `--cfg job`, `dry_run=true` and every mistake have to do without.
HEAVY = {"torch", "transformers", "trl", "datasets", "sklearn", "pandas"}
HEAVY |= {"seaborn", "mergekit", "accelerate", "peft", "bitsandbytes"}


def run_command(arguments: list[str], banned: set[str]) -> None:
    """Run `sacpo` in this process, and fail if it has imported what it may not."""
    sys.argv = ["sacpo", *arguments]
    try:
        sacpo()
    finally:
        if found := banned & set(sys.modules):
            raise SystemExit(f"imported {', '.join(found)}")


def become(request: dict[str, Any]) -> None:
    """Take the folder, the environment and the files of a request."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for number, (path, mode) in enumerate(zip(request["files"], (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY), strict=True)):
        os.dup2(os.open(path, mode), number)


def main() -> None:
    requests, replies = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    for module, _ in COMMANDS.values():
        importlib.import_module(f"sacpo_exp.{module}")
    for line in requests:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            become(request)
            run_command(request["arguments"], set(request["banned"]))
            return
        replies.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        replies.flush()


if __name__ == "__main__":
    if len(sys.argv) > 1:  # python fork_server.py ARGUMENT...: one light command that starts as usual
        run_command(sys.argv[1:], HEAVY)
    else:
        main()
