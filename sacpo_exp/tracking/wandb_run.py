"""wandb through transformers' own callback: where it writes, and whether it goes online."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sacpo_exp.config.schema import StageJob, WandbConfig, WandbMode

log = logging.getLogger(__name__)


@contextmanager
def tracked(job: StageJob) -> Iterator[None]:
    """Run a stage with wandb set up by environment variables, which its library reads; nothing without a tracker.

    The key comes from `WANDB_API_KEY` alone; without it `mode=auto` writes offline and says how to upload.
    """
    settings = job.config.tracker.wandb
    if settings is None:
        yield
        return
    folder = Path(job.config.paths.outputs).resolve()
    mode = choose_mode(settings, has_key="WANDB_API_KEY" in os.environ)
    os.environ |= {
        "WANDB_PROJECT": settings.project,
        "WANDB_DIR": str(folder),
        "WANDB_MODE": mode,
        "WANDB_SILENT": "true",
    }
    if settings.entity:
        os.environ["WANDB_ENTITY"] = settings.entity
    if mode == "offline":
        log.info("tracks   offline; upload with: wandb sync %s/wandb/offline-run-*", folder)
    import wandb

    try:
        yield
    finally:
        wandb.finish()


def choose_mode(settings: WandbConfig, has_key: bool) -> str:
    """wandb's own name of the mode: `auto` is online with a key and offline without."""
    if settings.mode == WandbMode.auto:
        return "online" if has_key else "offline"
    return str(settings.mode.value)
