"""Checkpoints inside a stage: sealed with hashes when written, checked before anything of them is loaded."""

import argparse
import json
import logging
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from sacpo_exp.config.hardware import HardwareConfig
from sacpo_exp.errors import StoreError
from sacpo_exp.store.manifest import SCRATCH as CHECKPOINTS
from sacpo_exp.store.manifest import hash_file, sync, write_whole

log = logging.getLogger(__name__)

SEAL, LAYOUT = "sha256.json", "layout.json"
#: Seconds between two looks for the hashes of other ranks.
INTERVAL = 0.1


@dataclass(frozen=True)
class Layout:
    """The number of processes that a checkpoint is spread over, and the ZeRO stage."""

    processes: int
    zero_stage: int

    def __str__(self) -> str:
        count = "1 process" if self.processes == 1 else f"{self.processes} processes"
        return f"{count} with ZeRO {self.zero_stage}" if self.zero_stage else f"{count} without ZeRO"

    @classmethod
    def of(cls, hardware: HardwareConfig) -> "Layout":
        return cls(hardware.processes, hardware.zero_stage)

    @classmethod
    def read(cls, checkpoint: Path) -> "Layout":
        return cls(**json.loads((checkpoint / LAYOUT).read_text("utf-8")))

    def can_read(self, earlier: "Layout") -> bool:
        """Return whether shards of `earlier` fit; without ZeRO every process has everything."""
        return self == earlier or (self.zero_stage == 0 and earlier.zero_stage == 0)

    def can_reshard(self, earlier: "Layout") -> bool:
        """Return whether `earlier` can be converted, as the optimizer's shards of stages 1 and 2 can.

        Not those of stage 3: with DeepSpeed 0.19.8 a stage that went on from them ended with other weights (by 0.01).
        """
        return self.zero_stage in (1, 2) and earlier.zero_stage in (1, 2)


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
    paths = sorted(path for path in checkpoint.rglob("*") if path.is_file() and not path.name.startswith(SEAL))
    paths.sort(key=lambda path: path.stat().st_size, reverse=True)
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


def reshard(checkpoint: Path) -> None:
    """Write DeepSpeed's universal form (Lian et al. 2024) beside the shards of a checkpoint that has been checked.

    Raises:
        StoreError: it has no shards.
    """
    from deepspeed.checkpoint import ds_to_universal

    shards = next((path for path in checkpoint.glob("global_step*") if not path.name.endswith("_universal")), None)
    if shards is None:
        raise StoreError(f"{checkpoint} has no shards of DeepSpeed. Remove it and run the same command again.")
    universal = shards.with_name(f"{shards.name}_universal")
    shutil.rmtree(universal, ignore_errors=True)  # of a killed conversion
    settings = argparse.Namespace(
        input_folder=str(shards),
        output_folder=str(universal),
        num_extract_workers=1,  # in this process: others would be forked from one with threads
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,  # transformers does not say that the model has no parts that are not sharded
    )
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        ds_to_universal.main(settings)
