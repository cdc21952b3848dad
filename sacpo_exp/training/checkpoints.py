"""Checkpoints inside a stage: sealed with hashes when written, checked before anything of them is loaded."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacpo_exp.config.hardware import HardwareConfig
from sacpo_exp.errors import StoreError
from sacpo_exp.store.durable import sync, sync_tree, write_whole
from sacpo_exp.store.manifest import SCRATCH as CHECKPOINTS
from sacpo_exp.store.manifest import hash_file

if TYPE_CHECKING:
    from transformers import TrainerCallback

SEAL, LAYOUT = "sha256.json", "layout.json"


@dataclass(frozen=True)
class Layout:
    """Over how many processes a checkpoint is spread, and how."""

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
        """Without ZeRO every process has everything; its shards fit the number of processes that wrote them only."""
        return self == earlier or (self.zero_stage == 0 and earlier.zero_stage == 0)

    def can_reshard(self, earlier: "Layout") -> bool:
        """The optimizer's shards of stages 1 and 2 can be made others.

        Not those of stage 3: with DeepSpeed 0.19.8 a stage that went on from them ended with other weights (by 0.01).
        """
        return self.zero_stage in (1, 2) and earlier.zero_stage in (1, 2)


def find_checkpoint(folder: Path) -> Path | None:
    """The newest sealed checkpoint below `folder`; one without a seal was being written when its process died.

    Raises:
        StoreError: a sealed file has another content now. Optimizer states are unpickled, so this is not let pass.
    """
    for checkpoint in _list(folder / CHECKPOINTS):
        if hashes := _read_seal(checkpoint):
            _check(checkpoint, hashes)
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
    """Sealed or not, the newest first."""
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)


def seal(checkpoint: Path) -> None:
    """Write the hashes of all files of a finished checkpoint beside them, as the last thing."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and not path.name.startswith(SEAL))
    hashes = {path.relative_to(checkpoint).as_posix(): hash_file(path) for path in files}
    sync_tree(checkpoint)
    write_whole(checkpoint / SEAL, json.dumps(hashes))


def _read_seal(checkpoint: Path) -> dict[str, str]:
    """Hashes by name; none if the seal is missing or, after a power cut, not whole."""
    try:
        return dict(json.loads((checkpoint / SEAL).read_text("utf-8")))
    except (OSError, ValueError):
        return {}


def _check(checkpoint: Path, hashes: dict[str, str]) -> None:
    for name, expected in hashes.items():
        path = checkpoint / name
        if not path.is_file() or hash_file(path) != expected:
            raise StoreError(
                f"{path} is not as it was written, and is not loaded. Remove {checkpoint} and run the same command "
                "again: it goes on from the checkpoint before, or from the start of the stage."
            )


def checkpoint_sealer(layout: Layout) -> "TrainerCallback":
    """A callback that seals every checkpoint on the first rank, when all have written their part, and removes old ones.

    Not transformers, which would remove old ones before the new one is sealed.
    """
    from transformers import TrainerCallback

    class CheckpointSealer(TrainerCallback):  # type: ignore[misc]
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            args.distributed_state.wait_for_everyone()
            if state.is_world_process_zero:
                checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
                (checkpoint / LAYOUT).write_text(json.dumps(asdict(layout)), "utf-8")
                seal(checkpoint)
                discard_checkpoints(checkpoint.parent, kept=2)

    return CheckpointSealer()
