"""Checkpoints inside a stage: sealed with hashes when written, checked before anything of them is loaded."""

import argparse
import json
import os
import shutil
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from sacpo_exp.config.hardware import HardwareConfig
from sacpo_exp.errors import StoreError
from sacpo_exp.store.manifest import SCRATCH as CHECKPOINTS
from sacpo_exp.store.manifest import hash_file, sync, sync_tree, write_whole

SEAL, LAYOUT = "sha256.json", "layout.json"


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
        for name, expected in hashes.items():
            path = checkpoint / name
            if not path.is_file() or hash_file(path) != expected:
                raise StoreError(
                    f"{path} is not as it was written, and is not loaded. Remove {checkpoint} and run the same command "
                    "again: it goes on from the checkpoint before, or from the start of the stage."
                )
        if hashes:
            return checkpoint
    return None


def discard_checkpoints(folder: Path, kept: int = 0) -> None:
    """Remove all but the newest sealed checkpoints; each loses its seal first, so that no part of one is used."""
    sealed = [checkpoint for checkpoint in _list(folder) if (checkpoint / SEAL).is_file()]
    for checkpoint in _list(folder):
        if checkpoint not in sealed[:kept]:
            (checkpoint / SEAL).unlink(missing_ok=True)
            sync(checkpoint)
            shutil.rmtree(checkpoint)


def _list(folder: Path) -> list[Path]:
    """Return checkpoints, sealed or not, the newest first."""
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)


def seal(checkpoint: Path) -> None:
    """Write the hashes of all files of a finished checkpoint beside them, as the last thing."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and not path.name.startswith(SEAL))
    hashes = {path.relative_to(checkpoint).as_posix(): hash_file(path) for path in files}
    sync_tree(checkpoint)
    write_whole(checkpoint / SEAL, json.dumps(hashes))


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
