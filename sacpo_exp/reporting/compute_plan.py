"""How much a stage computes, and how long that takes: arithmetic on tokens; pure.

Floating-point operations are counted as 2 per parameter and token forward and 4 backward (Kaplan et al. 2020, section
2.1). Attention over the length, padding, held-out rows, start-up and checkpoints are not counted.
"""

from dataclasses import dataclass

from sacpo_exp.config.memory import count_parameters, find_shape
from sacpo_exp.config.models import ModelConfig
from sacpo_exp.config.schema import StageConfig
from sacpo_exp.config.stages import loss_of

FORWARD, BACKWARD = 2, 4
TERA, SECONDS = 1e12, 3600


@dataclass(frozen=True)
class Reading:
    """What one epoch of a stage reads.

    Attributes:
        sequences: dialogues; a pair is two.
        tokens: of each, prompt and completion together, on average.
    """

    sequences: float
    tokens: float


def count_active(model: ModelConfig) -> int | None:
    """Parameters that every token meets: all but an embedding that is only looked up. None where nobody knows."""
    shape = find_shape(model)
    if shape is None or model.parameters is not None:
        return model.parameters
    return count_parameters(shape) - (0 if shape.tie_word_embeddings else shape.vocab_size * shape.hidden_size)


def count_operations(stage: StageConfig, reading: Reading, parameters: int, is_checkpointed: bool) -> float:
    """Floating-point operations of a whole stage.

    The frozen reference reads everything once, beforehand. KTO reads it a second time, with completions of other
    prompts, to estimate its KL, which has no backward pass. Activation checkpointing does the forward pass again.
    """
    once, in_update = loss_of(stage).extra_forwards
    repeated = FORWARD * (1 + in_update + is_checkpointed) + BACKWARD
    return parameters * reading.sequences * reading.tokens * ((stage.num_train_epochs or 0) * repeated + FORWARD * once)


def device_hours(operations: float, peak_tflops: float, utilisation: float) -> float:
    """Hours that one device takes which reaches this share of its peak."""
    return operations / (peak_tflops * TERA * utilisation) / SECONDS
