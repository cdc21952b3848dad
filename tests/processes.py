"""Commands of ours in other processes: forks of one that has imported what they need, or started as users start them.

`python processes.py` reads lines of JSON, the arguments of `fork_command`, and answers each with the exit code.
"""

import gc
import importlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, TypeVar

from composing import configure

from sacpo_exp.__main__ import COMMANDS
from sacpo_exp.__main__ import main as sacpo
from sacpo_exp.pipeline import open_run

Found = TypeVar("Found")

REPO = Path(__file__).parents[1]
#: What `--help`, `--cfg job`, `dry_run=true` and every mistake have to do without.
HEAVY = {"torch", "transformers", "trl", "datasets", "sklearn", "pandas"}
HEAVY |= {"seaborn", "mergekit", "accelerate", "peft", "bitsandbytes"}
#: Set by launchers and users' shells; tests must not feel them.
FOREIGN = ("ACCELERATE_", "TORCHELASTIC_", "WANDB_", "MLFLOW_", "SLURM_", "HYDRA_", "DS_")
FOREIGN += ("RANK", "WORLD_SIZE", "LOCAL_RANK")


def environment(**variables: str) -> dict[str, str]:
    """Of a user who has this checkout."""
    usual = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
    return usual | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPO)} | variables


def run_program(folder: Path, *command: object, **variables: str) -> str:
    """What a program prints in a folder; it fails the test if it fails."""
    line = [str(word) for word in command]
    done = subprocess.run(line, cwd=folder, env=environment(**variables), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


def start_command(folder: Path, *words: str, **variables: str) -> "subprocess.Popen[str]":
    """`sacpo WORDS…` as users start it, in a process group of its own, with errors among what it prints."""
    options: Any = {"cwd": folder, "env": environment(**variables), "start_new_session": True, "text": True}
    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen([sys.executable, "-m", "sacpo_exp", *words], **options)


def finish(process: "subprocess.Popen[str]", code: int = 0, timeout: float = 600) -> str:
    """What a process prints that has to end with this exit code."""
    output, _ = process.communicate(timeout=timeout)
    assert process.returncode == code, output
    return output


def wait_until(
    found: Callable[[], Found], process: "subprocess.Popen[Any] | None" = None, pause: float = 0.02
) -> Found:
    """What `found` returns as soon as it is true; fails if the process ends before, and after four minutes."""
    end = time.monotonic() + 240
    while not (result := found()):
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it was waited for in vain"
        time.sleep(pause)
    return result


def fork_command(
    folder: Path,
    *words: str,
    output: str = "printed",
    errors: str = "printed",
    variables: Mapping[str, str] | None = None,
    banned: Collection[str] = (),
) -> ForkProcess:
    """Start `sacpo WORDS…` in a fork of this process; it fails if a banned module is imported in the end.

    Args:
        folder: where it runs.
        output, errors: files in it, or elsewhere, for what it prints.
        variables: all of its environment; without, that of this process.
    """

    def run() -> None:
        os.setsid()
        os.chdir(folder)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)  # even where tests run under nohup
        if variables is not None:
            os.environ.clear()
            os.environ.update(variables)
        for number, path in ((1, output), (2, errors)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w") for number in (1, 2))  # pytest had put others there
        if torch := sys.modules.get("torch"):  # threads do not survive a fork
            torch.set_num_threads(1)
            os.environ["TOKENIZERS_PARALLELISM"] = "false"
        sys.argv = ["sacpo", *words]
        try:
            sacpo()
        finally:
            if found := set(banned) & set(sys.modules):
                raise SystemExit(f"imported {', '.join(found)}")

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def run_fork(folder: Path, *words: str) -> None:
    """Run a command in a fork; it fails the test if it fails."""
    process = fork_command(folder, *words)
    process.join()
    assert process.exitcode == 0, (folder / "printed").read_text("utf-8")


def serve() -> None:
    """Fork commands as told, from a process that has done what each would do again: imports, a plan for the demo."""
    requests, replies = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for module in [f"sacpo_exp.{name}" for name, _ in COMMANDS.values()] + ["s3fs"]:
        importlib.import_module(module)
    # with all that the machine would choose, which it says only once
    open_run(configure("train", "model=tiny", "hardware=cpu", "generation.dtype=float32", "dry_run=true"))
    gc.freeze()  # or the first look for cycles of a fork would copy all pages
    for line in requests:
        request: dict[str, Any] = json.loads(line)
        process = fork_command(request.pop("folder"), *request.pop("words"), **request)
        process.join()
        replies.write(f"{process.exitcode}\n")
        replies.flush()


if __name__ == "__main__":
    serve()
