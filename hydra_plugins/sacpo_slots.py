"""The plugin by which Hydra finds `hydra/launcher=slots`: it reads plugins from this namespace package only.

Imported at every start of every Hydra program of this environment, so it imports next to nothing.
"""

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn, configure_log


class SlotsLauncher(BasicLauncher):
    """Runs jobs side by side on one machine; `slots` is how many at a time, None as many as fit."""

    def __init__(self, slots: int | None = None) -> None:
        super().__init__()
        self.slots = slots

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs; their errors go to `failures` of the task function, as with the basic launcher."""
        from sacpo_exp.cluster.sweeps import run_slots

        config: Any = self.config
        task: Any = self.task_function
        if config.dry_run:  # nothing to run side by side
            return super().launch(job_overrides, initial_job_idx)
        configure_log(config.hydra.hydra_logging, config.hydra.verbose)
        task.failures += run_slots(config, dict(enumerate(job_overrides, initial_job_idx)), self.slots)
        return []
