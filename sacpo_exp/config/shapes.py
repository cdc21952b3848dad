"""Parameter counts from a model's shape, and shapes from config.json files; pure but for reading those."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from sacpo_exp.config.models import AdapterConfig, ModelConfig, ModelShape, ModelSource
from sacpo_exp.errors import ConfigError


def count_parameters(shape: ModelShape) -> int:
    """Parameters of a Llama (Touvron et al. 2023): embedding, layers, last norm, and a head unless tied."""
    width = shape.hidden_size
    embeddings = shape.vocab_size * width * (1 if shape.tie_word_embeddings else 2)
    norms = (2 * shape.num_hidden_layers + 1) * width
    return embeddings + norms + count_in_layers(shape)


def count_in_layers(shape: ModelShape) -> int:
    """Weights of the linear layers below the head: what autocast keeps a second copy of, and 4 bits are made of."""
    return shape.num_hidden_layers * sum(a * b for a, b in linear_sizes(shape).values())


def count_adapter(shape: ModelShape, adapter: AdapterConfig) -> int:
    """Trained parameters: r × (inputs + outputs) per adapted weight (Hu et al. 2022, section 4.1).

    Names of `target_modules` that a Llama has not count nothing; peft's `all-linear` counts all seven.
    """
    sizes = linear_sizes(shape)
    chosen = sizes if "all-linear" in adapter.target_modules else adapter.target_modules
    return shape.num_hidden_layers * adapter.r * sum(sum(sizes[name]) for name in chosen if name in sizes)


def linear_sizes(shape: ModelShape) -> dict[str, tuple[int, int]]:
    """(inputs, outputs) of the linear layers of one block, by transformers' names."""
    width, inner = shape.hidden_size, shape.intermediate_size
    keys = key_value_size(shape)
    return {
        "q_proj": (width, width),
        "k_proj": (width, keys),
        "v_proj": (width, keys),
        "o_proj": (width, width),
        "gate_proj": (width, inner),
        "up_proj": (width, inner),
        "down_proj": (inner, width),
    }


def key_value_size(shape: ModelShape) -> int:
    """Numbers per token in the keys, which several heads may share."""
    return shape.hidden_size // shape.num_attention_heads * shape.num_key_value_heads


def find_shape(model: ModelConfig) -> ModelShape | None:
    """The configured shape or, of a model in a folder, that of its config.json; None where it is not known."""
    if model.shape is not None or model.source != ModelSource.path or not model.path:
        return model.shape
    try:
        found = json.loads((Path(model.path).expanduser() / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None  # loading it will say why
    return shape_of(found) if isinstance(found, dict) else None


def shape_of(config: Mapping[str, Any]) -> ModelShape | None:
    """The shape that a model's own configuration tells, or None if it is of another kind than Llama's."""
    values: dict[str, Any] = {name: config.get(name) for name in (field.name for field in fields(ModelShape))}
    values["num_key_value_heads"] = values["num_key_value_heads"] or values["num_attention_heads"]
    values["tie_word_embeddings"] = bool(values["tie_word_embeddings"])
    if not all(isinstance(value, int) for value in values.values()) or not values["num_attention_heads"]:
        return None
    return ModelShape(**values)


def check_shape(model: ModelConfig, config: Mapping[str, Any], where: str) -> None:
    """Compare the configured shape with the configuration of the model that was loaded from `where`.

    Raises:
        ConfigError: they differ, so that every figure of the memory plan was wrong.
    """
    real = shape_of(config)
    if model.shape is None or real is None:
        return
    wrong = [name for name, value in vars(model.shape).items() if getattr(real, name) != value]
    if wrong:
        told, found = (", ".join(f"{name} {getattr(shape, name)}" for name in wrong) for shape in (model.shape, real))
        first = f"model.shape.{wrong[0]}={getattr(real, wrong[0])}"
        raise ConfigError(f"`model.shape` says {told}, but the model in {where} has {found}. Try: {first}")
