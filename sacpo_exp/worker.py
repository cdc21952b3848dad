"""What a worker group runs: one stage, read from a file. It knows no Hydra and composes nothing."""

import logging
import os
import sys
from pathlib import Path
from typing import Any

import yaml

from sacpo_exp.config.loading import read_job
from sacpo_exp.config.schema import StageJob
from sacpo_exp.errors import ConfigError, SacpoError, run_reporting_errors
from sacpo_exp.launching import RESULT


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run_reporting_errors(work)


def work() -> None:
    """Train the stage of the job file named on the command line; the first rank leaves its metrics beside it."""
    if len(sys.argv) != 2:
        raise ConfigError("a worker is started by sacpo_exp.train, not by hand. Try: python -m sacpo_exp.train")
    from sacpo_exp.training.stage import train_stage

    job = read_job(Path(sys.argv[1]))
    is_first = os.environ.get("RANK", "0") == "0"
    try:
        metrics = train_stage(job)
    except SacpoError as error:
        if is_first:  # the launcher in between makes every exit code a 1
            write_result(job, {"exit_code": error.exit_code})
        raise
    if is_first:
        write_result(job, {"exit_code": 0, "metrics": metrics})


def write_result(job: StageJob, result: dict[str, Any]) -> None:
    """Leave how it ended beside the job, for the parent."""
    (Path(job.folder) / RESULT).write_text(yaml.safe_dump(result), "utf-8")


if __name__ == "__main__":
    main()
