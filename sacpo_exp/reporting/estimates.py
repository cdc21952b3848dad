"""Estimates of GPU hours and memory for the stages of a run; memory is checked before anything heavy is imported.

Floating-point operations are counted as 2 per parameter and token forward and 4 backward (Kaplan et al. 2020, section
2.1). Attention over the length, padding, held-out rows, start-up and checkpoints are not counted.
"""

import logging
from typing import Final

from sacpo_exp.cluster.automatic import list_hardware
from sacpo_exp.cluster.memory import count_parameters, draw_table, find_misfit, find_shape
from sacpo_exp.config.data import DataSchema
from sacpo_exp.config.hardware import look_at_machine
from sacpo_exp.config.loading import CONF
from sacpo_exp.config.models import ModelConfig
from sacpo_exp.config.schema import StageConfig
from sacpo_exp.config.stages import loss_of
from sacpo_exp.config.validation import check_quantisation
from sacpo_exp.data.forms import CONVERTERS
from sacpo_exp.data.preferences import make_view
from sacpo_exp.data.preparation import COMPLETIONS
from sacpo_exp.data.sources import load_parts
from sacpo_exp.errors import ConfigError
from sacpo_exp.evaluation.judges.costs import CHARACTERS_PER_TOKEN
from sacpo_exp.method.losses import View
from sacpo_exp.pipeline import Run, is_at_hand
from sacpo_exp.plan import Stage

FORWARD: Final = 2
BACKWARD: Final = 4
#: Schemas of pairs, of which supervised fine-tuning reads the chosen response.
PAIRS: Final = [schema for schema, (form, _) in CONVERTERS.items() if form == DataSchema.pairs]
log = logging.getLogger(__name__)


def estimate_hours(run: Run, stage: Stage) -> float | None:
    """Return the GPU hours of a stage; None if data, model or throughput are not known."""
    hardware, parameters = run.config.hardware, count_active(run.config.model)
    if parameters is None or hardware.peak_tflops is None or hardware.utilisation is None:
        return None
    counted = _count_sequences(run, stage)
    if counted is None:
        return None
    tokens = counted[0] * min(counted[1], float(run.config.optimization.max_length))
    operations = count_operations(stage.config, tokens, parameters, hardware.activation_checkpointing)
    return operations / (hardware.peak_tflops * 1e12 * hardware.utilisation) / 3600


def count_active(model: ModelConfig) -> int | None:
    """Return the parameters that every token meets: all but an embedding that is only looked up; None if not known."""
    shape = find_shape(model)
    if shape is None or model.parameters is not None:
        return model.parameters
    return count_parameters(shape) - (0 if shape.tie_word_embeddings else shape.vocab_size * shape.hidden_size)


def count_operations(stage: StageConfig, tokens: float, parameters: int, is_checkpointed: bool) -> float:
    """Return the floating-point operations of a whole stage that reads so many tokens per epoch.

    The frozen reference reads everything once, beforehand. KTO reads it a second time, with completions of other
    prompts, to estimate its KL, which has no backward pass. Activation checkpointing repeats the forward pass.
    """
    once, in_update = loss_of(stage).extra_forwards
    repeated = FORWARD * (1 + in_update + is_checkpointed) + BACKWARD
    return parameters * tokens * ((stage.num_train_epochs or 0) * repeated + FORWARD * once)


def _count_sequences(run: Run, stage: Stage) -> tuple[float, float] | None:
    """Return how many dialogues a stage reads per epoch (a pair is two), and the mean tokens of one.

    They are counted if the data are prepared or on this machine; else they come from `dataset.size`, or are None.
    """
    dataset, view, sequences = stage.dataset, loss_of(stage.config).view, loss_of(stage.config).sequences
    if run.store.has(stage.data):
        stored = run.store.manifest(stage.data).metrics["train"]
        tokens = stored["prompt_tokens"]["mean"] + stored["completion_tokens"]["mean"]
        return stored["examples"] * sequences, tokens
    if is_at_hand(run, stage):
        rows = make_view(load_parts(dataset)[0]["train"], view, stage.config.criterion, dataset.only_mixed_pairs)
        dialogues = [(*row["prompt"], *row[name]) for row in rows for name in COMPLETIONS if name in row]
        characters = sum(len(message["content"]) for messages in dialogues for message in messages)
        return len(dialogues), characters / len(dialogues) / CHARACTERS_PER_TOKEN
    if dataset.size is None:
        return None
    is_chosen_only = dataset.schema in PAIRS and view == View.responses
    per_row = 1 if is_chosen_only or dataset.schema == DataSchema.unpaired else 2
    known = min(dataset.size.rows, dataset.max_rows or dataset.size.rows)
    return known * per_row, dataset.size.prompt_tokens + dataset.size.completion_tokens


def check_run(run: Run) -> None:
    """Check what would stop training only after minutes: a missing package, too little memory.

    Raises:
        ConfigError: it can't be trained here.
    """
    check_quantisation(run.config.adapter)
    check_memory(run)


def check_memory(run: Run) -> None:
    """Raise ConfigError if a stage that is still to be trained can't fit, and `force` is false."""
    names = _list_untrained(run)
    if names and find_shape(run.config.model) is None:
        log.warning("no memory plan: the shape of model=%s is not known", run.config.model.name)
    if sentence := find_misfit(run.config, names):
        if not run.config.force:
            raise ConfigError(sentence)
        log.warning("forced   %s", sentence)


def draw_memory_plan(run: Run) -> list[str]:
    """Return lines of the memory table for the largest stage, of those to train or, if all are stored, of all."""
    names = _list_untrained(run) or [stage.name for stage in run.plan.stages]
    return list(draw_table(run.config, names, list_hardware(CONF), look_at_machine()))


def _list_untrained(run: Run) -> list[str]:
    return [stage.name for stage in run.plan.stages if not run.store.is_available(stage.artifact)]
