"""What a slot of a sweep runs: one unit of work after another, as told on standard input. It composes nothing."""

import json
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from sacpo_exp.cluster.worker import redirect_output
from sacpo_exp.config.choosing import ChooseConfig
from sacpo_exp.config.exports import ExportConfig
from sacpo_exp.config.job_state import recorded
from sacpo_exp.config.loading import quiet_libraries, read_resolved
from sacpo_exp.config.schema import EvalConfig, RunConfig
from sacpo_exp.errors import sum_up
from sacpo_exp.pipeline import open_run

log = logging.getLogger(__name__)

SCHEMAS = {
    "train": RunConfig,
    "eval": EvalConfig,
    "choose": ChooseConfig,
    "prepare": RunConfig,
    "export": ExportConfig,
}


def main() -> None:
    if sys.stdin.isatty():
        sys.exit("a slot is started by a sweep, not by hand. Try: sacpo train -m hydra/launcher=slots ...")
    quiet_libraries()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as replies:
        os.dup2(2, 1)  # what libraries print is no reply; from the first order on it goes into the job's log
        if "warm" in sys.argv[1:]:
            import sacpo_exp.training.stage
            import sacpo_exp.training.trainers  # noqa: F401  seconds, while there is nothing else to do
        for line in sys.stdin:
            order = json.loads(line)
            redirect_output(Path(order["log"]))
            replies.write(json.dumps(answer(order)) + "\n")
            replies.flush()


def answer(order: dict[str, Any]) -> dict[str, Any]:
    """Carry out an order, and say how it ended, as `sweeping.slots.Outcome` has it."""
    try:
        work(order)
    except Exception as error:
        summary = sum_up(error)
        log.error("error: %s", summary["message"])
        return summary
    return {"message": None, "exit_code": 0}


def work(order: dict[str, Any]) -> None:
    """Make the stage `order["stage"]` of the job in `order["folder"]`, or all that the job still lacks."""
    from sacpo_exp.cluster.devices import check_devices
    from sacpo_exp.pipeline import train

    folder, command = Path(order["folder"]), order["command"]
    config = read_resolved(folder, SCHEMAS[command])
    # The slot has chosen: its devices are the only ones that are visible, and a port is for one group alone.
    config.hardware = replace(config.hardware, devices=[], port=None)
    if order["stage"] is None:
        with recorded(folder):
            task_of(command)(config)
        return
    run = open_run(config)
    check_devices(config.hardware)
    train(run, next(stage for stage in run.plan.stages if stage.artifact.id == order["stage"]))


def task_of(command: str) -> Any:
    """The function behind `sacpo <command>`."""
    if command == "train":
        from sacpo_exp.train import train

        return train
    if command == "eval":
        from sacpo_exp.eval import evaluate

        return evaluate
    if command == "choose":
        from sacpo_exp.choose import choose

        return choose
    if command == "export":
        from sacpo_exp.export import export

        return export
    from sacpo_exp.prepare import prepare_all

    return prepare_all


if __name__ == "__main__":
    main()
