"""Checkpoints inside a stage: sealed with hashes when written, checked before anything of them is loaded."""

import json
import logging
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sacpo_exp.config.hardware import HardwareConfig
from sacpo_exp.errors import StoreError
from sacpo_exp.store.manifest import SCRATCH as CHECKPOINTS
from sacpo_exp.store.manifest import hash_file, sync, write_whole

log = logging.getLogger(__name__)

SEAL, LAYOUT = "sha256.json", "layout.txt"
#: Seconds between two looks for the hashes of other ranks.
INTERVAL = 0.1


def describe_layout(hardware: HardwareConfig) -> str:
    """Return over what a checkpoint is spread, in words; one is resumed from only where they are the same."""
    if not hardware.zero_stage:
        return "processes without ZeRO"  # each has everything, so any number of them can go on
    count = "1 process" if hardware.processes == 1 else f"{hardware.processes} processes"
    return f"{count} with ZeRO {hardware.zero_stage}"


def find_checkpoint(folder: Path) -> Path | None:
    """Return the newest sealed checkpoint below `folder`; one without a seal was not finished when its process died.

    Raises:
        StoreError: the content of a sealed file has changed. Optimizer states are pickles, so they must not be loaded.
    """
    for checkpoint in _list(folder / CHECKPOINTS):
        try:
            hashes = dict(json.loads((checkpoint / SEAL).read_text("utf-8")))
        except (OSError, ValueError):  # missing or, after a power cut, not whole
            continue
        present = [name for name in hashes if (checkpoint / name).is_file()]
        with ThreadPoolExecutor() as pool:  # hashing runs without Python's lock
            found = dict(zip(present, pool.map(hash_file, (checkpoint / name for name in present)), strict=True))
        if changed := [name for name, expected in hashes.items() if found.get(name) != expected]:
            raise StoreError(
                f"{checkpoint / changed[0]} is not as it was written, and is not loaded. Remove {checkpoint} and run "
                "the same command again: it goes on from the checkpoint before, or from the start of the stage."
            )
        if hashes:
            return checkpoint
    return None


def discard_checkpoints(folder: Path, kept: Path | None = None) -> None:
    """Remove all checkpoints but one; each loses its seal first, so that no part of one is used."""
    for checkpoint in _list(folder):
        if checkpoint != kept:
            (checkpoint / SEAL).unlink(missing_ok=True)
            sync(checkpoint)
            shutil.rmtree(checkpoint)


def _list(folder: Path) -> list[Path]:
    """Return checkpoints, sealed or not, the newest first."""
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)


def list_files(checkpoint: Path) -> list[str]:
    """Return the names of all files of a checkpoint that is not sealed, the largest first."""
    paths = [path for path in checkpoint.rglob("*") if path.is_file() and not path.name.startswith(SEAL)]
    paths.sort(key=lambda path: (-path.stat().st_size, path))
    return [path.relative_to(checkpoint).as_posix() for path in paths]


def seal(checkpoint: Path, files: Sequence[str], rank: int = 0, ranks: int = 1) -> None:
    """Hash this rank's share of the files of a checkpoint that all ranks have written.

    The first rank waits for the hashes of the others, writes those of all files as the last thing, the seal, and then
    removes all other checkpoints.
    """
    hashes = {}
    for name in files[rank::ranks]:
        sync(checkpoint / name)
        hashes[name] = hash_file(checkpoint / name)
    if rank > 0:
        write_whole(checkpoint / f"{SEAL}.{rank}", json.dumps(hashes))
        return
    for share in (checkpoint / f"{SEAL}.{other}" for other in range(1, ranks)):
        while not share.is_file():  # a rank that fails ends the others
            time.sleep(INTERVAL)
        hashes |= json.loads(share.read_text("utf-8"))
        share.unlink()
    for folder in {checkpoint.parent, checkpoint, *((checkpoint / name).parent for name in files)}:
        sync(folder)
    write_whole(checkpoint / SEAL, json.dumps(hashes))
    discard_checkpoints(checkpoint.parent, kept=checkpoint)
    log.info("saved    %s", checkpoint)
