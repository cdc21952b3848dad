"""Which policies are exported, and where each is put."""

import logging
from pathlib import Path

from sacpo_exp.config.exports import ExportConfig
from sacpo_exp.config.models import ModelSource
from sacpo_exp.errors import ConfigError
from sacpo_exp.pipeline import Run

log = logging.getLogger(__name__)


def choose_targets(run: Run, config: ExportConfig) -> dict[str, Path]:
    """Folder of every chosen policy, by the policy's name.

    An untrained model that lies on the hub or in a folder is left out: it is there already.

    Raises:
        ConfigError: nothing is left.
    """
    is_elsewhere = config.model.source in (ModelSource.hub, ModelSource.path)
    chosen = run.plan.selected(config.policies)
    taken = {name: policy for name, policy in chosen.items() if not (policy.kind == "model" and is_elsewhere)}
    if not taken:
        raise ConfigError(
            f"`policies` must name a trained policy, but {next(iter(chosen))} is {config.model.path} as it is. "
            "Try: policies=final"
        )
    if len(taken) < len(chosen):
        log.info("left out the baseline, which is %s as it is", config.model.path)
    if config.folder is not None and len(taken) == 1:
        return {name: Path(config.folder).expanduser() for name in taken}
    above = Path(config.folder).expanduser() if config.folder else Path(config.paths.outputs) / "export"
    return {name: above / policy.id for name, policy in taken.items()}
