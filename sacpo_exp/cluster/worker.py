"""What a worker group runs: one stage, read from a file. It knows no Hydra and composes nothing."""

import logging
import os
import sys
from pathlib import Path

from sacpo_exp.cluster.reports import log_of, write_ending
from sacpo_exp.cluster.supervision import die_with_launcher
from sacpo_exp.config.loading import quiet_libraries, read_job
from sacpo_exp.errors import sum_up
from sacpo_exp.stopping import StopFile


def main() -> None:
    if not die_with_launcher() or len(sys.argv) != 2:
        sys.exit("a worker is started by sacpo_exp.train, not by hand. Try: sacpo train")
    path, rank = Path(sys.argv[1]), int(os.environ.get("RANK", "0"))
    redirect_output(log_of(path.parent, rank))
    logging.basicConfig(level=logging.INFO if rank == 0 else logging.WARNING, format="%(message)s")
    try:
        work(path, rank)
    except Exception as error:
        write_ending(path.parent, rank, **sum_up(error))
        os._exit(1)  # ranks that wait for this one would keep an orderly exit waiting


def work(path: Path, rank: int) -> None:
    """Train the stage of a job file; every rank leaves how it ended beside it, the first one its metrics."""
    quiet_libraries()
    from sacpo_exp.training.stage import train_stage

    metrics = train_stage(read_job(path), StopFile(path.parent))
    write_ending(path.parent, rank, metrics=metrics if rank == 0 else None, is_stopped=metrics is None)


def redirect_output(log: Path) -> None:
    """Send all that this process prints, its libraries' C code too, into a file of its own."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)


if __name__ == "__main__":
    main()
