"""A tiny plan that goes all the way in seconds."""

from pathlib import Path

from hydra import compose, initialize_config_dir

from sacpo_exp.config.loading import CONF, register_schemas, to_config
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.pipeline import Run, open_run

TINY = [
    "model=tiny",
    "dataset.max_rows=24",
    "dataset.max_heldout_rows=8",
    "model@judge.encoder=tiny",
    "judge.layer=2",
    "prompts.limit=12",
    "generation.max_new_tokens=8",
    "generation.kl_prompts=4",
    "hardware.save_steps=2",
]


def make_config(outputs: Path, *overrides: str) -> RunConfig:
    """The tiny configuration, composed as the command line would."""
    register_schemas()
    chosen = [*TINY, f"paths.outputs={outputs}", *overrides]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return to_config(compose("train", overrides=chosen), RunConfig, chosen)


def make_run(outputs: Path, *overrides: str) -> Run:
    return open_run(make_config(outputs, *overrides))
