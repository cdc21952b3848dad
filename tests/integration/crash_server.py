"""Runs commands in forks of one process that has imported what they need, and kills them where it is told.

    LD_PRELOAD=crash_points.so python crash_server.py

reads lines of JSON and answers each with the exit code of `command`, or minus the signal that ended it: at a change in
`folder`, as `crash_at` in crash_points.c counts them (0 for none). What it prints and its changes go into files.
"""

import ctypes
import gc
import importlib
import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

#: Packages whose modules a command imports late, and the forks after it find imported. They start no thread by that.
LATE = ("torch", "transformers", "trl", "datasets", "accelerate", "mergekit", "sklearn", "openai", "sacpo_exp")


@cache
def compose_command(name: str, *arguments: str) -> Callable[[], None]:
    """The command with its configuration, before it has done anything."""
    from hydra import compose, initialize_config_dir

    from sacpo_exp.cluster.commands import to_config
    from sacpo_exp.config.loading import CONF, quiet_libraries, register_schemas
    from sacpo_exp.config.schema import EvalConfig, RunConfig
    from sacpo_exp.eval import evaluate
    from sacpo_exp.train import train

    register_schemas()
    quiet_libraries()
    command, schema = {"train": (train, RunConfig), "eval": (evaluate, EvalConfig)}[name]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return partial(command, to_config(compose(name, overrides=list(arguments)), schema, list(arguments)))


def build(outputs: str) -> None:
    """What every stage does to the disk, in milliseconds: three checkpoints, weights, an artifact."""
    from sacpo_exp.store import ArtifactSpec, Store
    from sacpo_exp.training.checkpoints import CHECKPOINTS, find_checkpoint, list_files, seal

    def train(folder: Path) -> dict[str, Any]:
        found = find_checkpoint(folder)
        done = int((found / "optimizer.pt").read_text()) if found else 0
        for step in range(done + 1, 4):
            checkpoint = folder / CHECKPOINTS / f"checkpoint-{step}"
            checkpoint.mkdir(exist_ok=True)
            (checkpoint / "optimizer.pt").write_text(str(step))
            seal(checkpoint, list_files(checkpoint))
            done = step
        (folder / "model.safetensors").write_text(str(done))
        return {"updates": done}

    Store(Path(outputs) / "store").get_or_build(ArtifactSpec("stage", "thing", {}, (), {}), train)


def run_in_fork(said: dict[str, Any], imported: Path) -> int:
    """The exit code of a command; one that ends by itself leaves the names of its modules in a file."""
    name, *arguments = said["command"]
    command = partial(build, *arguments) if name == "build" else compose_command(name, *arguments)

    def run() -> None:
        output, changes = (os.open(said[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for name in ("output", "changes"))
        os.dup2(output, 1)
        os.dup2(output, 2)
        ctypes.CDLL(None).crash_at(os.fsencode(said["folder"]), ctypes.c_long(said["at"]), changes)
        command()
        imported.write_text("\n".join(module for module in sys.modules if module.startswith(LATE)))

    gc.freeze()  # or the child's first look for cycles would copy all pages
    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    return process.exitcode or 0


def main() -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # some libraries print when they are imported
    for line in sys.stdin:
        said = json.loads(line)
        imported = Path(said["output"]).with_name("modules")
        code = run_in_fork(said, imported)
        if code == 0:
            for name in set(imported.read_text().split()) - set(sys.modules):
                with suppress(Exception):
                    importlib.import_module(name)
        replies.write(f"{code}\n")
        replies.flush()


if __name__ == "__main__":
    main()
