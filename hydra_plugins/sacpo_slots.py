"""The plugin by which Hydra finds `hydra/launcher=slots`: it reads plugins from this namespace package only.

Imported at every start of every Hydra program of this environment, so it imports next to nothing.
"""

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn, configure_log, filter_overrides, run_job, setup_globals
from omegaconf import open_dict


class SlotsLauncher(BasicLauncher):
    """Composes all jobs here, as Hydra's basic launcher does, and has `sacpo_exp.sweep` run them side by side.

    Args:
        slots: jobs at a time; None: as many as fit the machine.
    """

    def __init__(self, slots: int | None = None) -> None:
        super().__init__()
        self.slots = slots

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs; their errors go to `failures` of the task function, as with the basic launcher."""
        from sacpo_exp.sweep import Sweep

        config: Any = self.config
        context: Any = self.hydra_context
        if config.dry_run:  # nothing to run side by side
            return super().launch(job_overrides, initial_job_idx)
        setup_globals()
        configure_log(config.hydra.hydra_logging, config.hydra.verbose)
        jobs = dict(enumerate(job_overrides, initial_job_idx))
        shown = {number: filter_overrides(overrides) for number, overrides in jobs.items()}
        sweep = Sweep(config.hydra.job.config_name, shown, self.task_function)
        opened = []
        for number, overrides in jobs.items():
            composed = context.config_loader.load_sweep_config(config, list(overrides))
            with open_dict(composed):
                composed.hydra.job.id = composed.hydra.job.num = number
            opened.append(
                run_job(
                    hydra_context=context,
                    task_function=lambda job, number=number: sweep.open(number, job),
                    config=composed,
                    job_dir_key="hydra.sweep.dir",
                    job_subdir_key="hydra.sweep.subdir",
                    configure_logging=False,  # the job's own process writes its log
                )
            )
        configure_log(config.hydra.hydra_logging, config.hydra.verbose)
        sweep.run(self.slots)
        return opened
