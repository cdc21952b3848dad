"""The process of one job of a sweep. It reads the configuration that the sweep has written, and composes nothing."""

import logging
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from sacpo_exp.cluster.job_state import recorded
from sacpo_exp.config.loading import quiet_libraries, read_resolved
from sacpo_exp.config.messages import SCHEMAS
from sacpo_exp.errors import run_reporting_errors
from sacpo_exp.stopping import hear_ends

#: Functions of commands that are not called as their module.
FUNCTIONS = {"eval": "evaluate", "prepare": "prepare_all"}


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("a slot is started by a sweep, not by hand. Try: sacpo train -m hydra/launcher=slots ...")
    command, folder = sys.argv[1], Path(sys.argv[2])
    quiet_libraries()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    hear_ends()
    run_reporting_errors(lambda: run_job(command, folder))


def run_job(command: str, folder: Path) -> None:
    """Run the job whose configuration lies in `folder`, and record its state there."""
    with recorded(folder):
        schema: Any = SCHEMAS[command]
        config = read_resolved(folder, schema)
        # The sweep has made this job's devices the only visible ones, and a port is for one group alone.
        config.hardware = replace(config.hardware, devices=[], port=None)
        getattr(import_module(f"sacpo_exp.{command}"), FUNCTIONS.get(command, command))(config)


if __name__ == "__main__":
    main()
