"""A run against the memory plan: what is still to be trained has to fit, or be forced."""

import logging
from collections.abc import Iterator

from sacpo_exp.config.automatic import list_hardware
from sacpo_exp.config.hardware import look_at_machine
from sacpo_exp.config.loading import CONF
from sacpo_exp.config.memory import draw_table, find_misfit, find_shape
from sacpo_exp.config.validation import check_quantisation
from sacpo_exp.errors import ConfigError
from sacpo_exp.pipeline import Run

log = logging.getLogger(__name__)


def check_run(run: Run) -> None:
    """What would stop training only after minutes: a package that is missing, too little memory.

    Raises:
        ConfigError: it can't be trained here.
    """
    check_quantisation(run.config.adapter)
    check_memory(run)


def check_memory(run: Run) -> None:
    """Before anything heavy is imported.

    Raises:
        ConfigError: a stage that is still to be trained can't fit, and `force` is false.
    """
    names = untrained(run)
    if names and find_shape(run.config.model) is None:
        log.warning("no memory plan: the shape of model=%s is not known", run.config.model.name)
    sentence = find_misfit(run.config, names)
    if sentence is None:
        return
    if not run.config.force:
        raise ConfigError(sentence)
    log.warning("forced   %s", sentence)


def draw_memory_plan(run: Run) -> Iterator[str]:
    """Lines of the table for the stage that needs most, of those to train or, if all are stored, of all."""
    names = untrained(run) or [stage.name for stage in run.plan.stages]
    yield from draw_table(run.config, names, list_hardware(CONF), look_at_machine())


def untrained(run: Run) -> list[str]:
    """Names of the stages that still have to be trained."""
    return [stage.name for stage in run.plan.stages if not run.store.is_available(stage.artifact)]
