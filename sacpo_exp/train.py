"""`sacpo train`: make every policy of the plan that is not stored yet."""

import logging

from sacpo_exp.cluster.commands import run_command
from sacpo_exp.cluster.devices import check_devices
from sacpo_exp.cluster.groups import join_group
from sacpo_exp.cluster.nodes import gathered
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.errors import ConfigError
from sacpo_exp.pipeline import open_run, train_policies
from sacpo_exp.reporting.planning import check_run, print_plan, print_totals

log = logging.getLogger(__name__)


def main() -> None:
    run_command("train", RunConfig, train, at_end=print_totals)


def train(config: RunConfig) -> None:
    """Train, and merge where `merge_ratio` is given; with `dry_run` only say what would be done.

    Raises:
        ConfigError: there is nothing to train, or it can't be trained here.
    """
    if not config.dry_run and not config.stages:
        raise ConfigError("`order=none` with `base=none` leaves nothing to train. Try: sacpo eval")
    run = open_run(config)
    if config.dry_run:
        print_plan(run)
        return
    check_run(run)
    check_devices(config.hardware)
    with gathered(config.hardware, run.plan.stages[-1].artifact.id, join_group) as nodes:
        if nodes is None:
            return
        train_policies(run, nodes)
    log.info("next     sacpo eval policies=all, with the same overrides")


if __name__ == "__main__":
    main()
