"""Checkpoints that ZeRO has spread over processes, made readable for another number of them, or another stage."""

import argparse
import logging
import os
import shutil
from contextlib import redirect_stdout
from pathlib import Path

from sacpo_exp.errors import StoreError

log = logging.getLogger(__name__)


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
