"""Checkpoints inside a stage: sealed with hashes when written, checked before anything of them is loaded."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacpo_exp.errors import StoreError
from sacpo_exp.store.manifest import hash_file

if TYPE_CHECKING:
    from transformers import TrainerCallback

CHECKPOINTS = "checkpoints"
SEAL = "sha256.json"


def find_checkpoint(folder: Path) -> Path | None:
    """The newest sealed checkpoint below `folder`; one without a seal was being written when its process died.

    Raises:
        StoreError: a sealed file has another content now. Optimizer states are unpickled, so this is not let pass.
    """
    found = sorted((folder / CHECKPOINTS).glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for checkpoint in reversed(found):
        if (checkpoint / SEAL).is_file():
            _check(checkpoint)
            return checkpoint
    return None


def seal(checkpoint: Path) -> None:
    """Write the hashes of all files of a finished checkpoint beside them, as the last thing."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    hashes = {path.relative_to(checkpoint).as_posix(): hash_file(path) for path in files}
    partial = checkpoint / f"{SEAL}.partial"
    partial.write_text(json.dumps(hashes), "utf-8")
    partial.rename(checkpoint / SEAL)


def _check(checkpoint: Path) -> None:
    for name, expected in json.loads((checkpoint / SEAL).read_text("utf-8")).items():
        path = checkpoint / name
        if not path.is_file() or hash_file(path) != expected:
            raise StoreError(
                f"{path} is not as it was written, and is not loaded. Remove {checkpoint} and run the same command "
                "again: it goes on from the checkpoint before, or from the start of the stage."
            )


def checkpoint_sealer() -> "TrainerCallback":
    """A callback that seals every checkpoint on the first rank."""
    from transformers import TrainerCallback

    class CheckpointSealer(TrainerCallback):  # type: ignore[misc]
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.is_world_process_zero:
                seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    return CheckpointSealer()
