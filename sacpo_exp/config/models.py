"""Language models: where weights come from, their shape, and what is trained of them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from omegaconf import MISSING

from sacpo_exp.config.bounds import LARGEST, bounded, count

#: Bytes, and the special tokens, of the tokenizer of a model from scratch.
LEAST_VOCABULARY = 256 + 3


class FloatType(Enum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class ModelSource(Enum):
    embedded = "embedded"  # inside a Python package
    hub = "hub"  # Hugging Face hub, or its local cache
    path = "path"  # a folder
    scratch = "scratch"  # random weights, own tokenizer


@dataclass
class ModelShape:
    """The numbers of a Llama-like model that decide its size; transformers' names."""

    vocab_size: int = count()
    hidden_size: int = count()
    intermediate_size: int = count()
    num_hidden_layers: int = count()
    num_attention_heads: int = count()
    num_key_value_heads: int = count()
    max_position_embeddings: int = count()
    tie_word_embeddings: bool = MISSING


@dataclass
class ModelConfig:
    """`shape` is what a model from scratch is made by; of others it is for the memory plan."""

    name: str = MISSING
    source: ModelSource = MISSING
    path: str | None = None  # package, repository or folder, by source
    revision: str | None = None  # commit on the hub; version of the package
    file: str | None = None  # GGUF file inside the package
    shape: ModelShape | None = None
    parameters: int | None = bounded(
        least=1, most=LARGEST, default=None
    )  # where the shape is not a Llama's: for estimates
    chat_template: str | None = None  # null: the model's own
    stop: list[str] = field(default_factory=list)
    trust_remote_code: bool = False


@dataclass
class AdapterConfig:
    """Low-rank adapters (Hu et al. 2022), on weights quantised to 4 bits with `quantize` (Dettmers et al. 2023)."""

    name: str = MISSING
    r: int = count()
    lora_alpha: float = bounded(above=0)
    lora_dropout: float = bounded(least=0, below=1)
    target_modules: list[str] = MISSING
    quantize: bool = MISSING


def find_model_problems(key: str, model: ModelConfig) -> Iterator[str]:
    """What is wrong with the shape and the chat template of the model at `key`."""
    if model.shape is not None:
        yield from _check_shape(f"{key}.shape", model.shape, model.source == ModelSource.scratch)
    if model.chat_template is not None:
        yield from _check_template(f"{key}.chat_template", model.chat_template)


def _check_shape(key: str, shape: ModelShape, is_from_scratch: bool) -> Iterator[str]:
    heads, keys = shape.num_attention_heads, shape.num_key_value_heads
    if min(heads, keys) < 1:
        return  # outside their bounds, which is said elsewhere
    if shape.hidden_size % (2 * heads):  # rotary embeddings turn pairs of numbers
        near = max(1, shape.hidden_size // (2 * heads)) * 2 * heads
        yield (
            f"`{key}.hidden_size` must be a multiple of twice `num_attention_heads` = {heads}, but is "
            f"{shape.hidden_size}. Try: {key}.hidden_size={near}"
        )
    if heads % keys:
        yield (
            f"`{key}.num_key_value_heads` must divide `num_attention_heads` = {heads}, but is {keys}. "
            f"Try: {key}.num_key_value_heads={heads}"
        )
    if is_from_scratch and shape.vocab_size < LEAST_VOCABULARY:
        yield (
            f"`{key}.vocab_size` must be at least {LEAST_VOCABULARY} for a model from scratch, whose tokenizer knows "
            f"every byte, but is {shape.vocab_size}."
        )


def _check_template(key: str, template: str) -> Iterator[str]:
    """Parse the template as transformers does; its `{% generation %}`, which Jinja does not know, aside."""
    import jinja2

    try:
        plain = re.sub(r"\{%-?\s*(end)?generation\s*-?%\}", "", template)
        jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(plain)
    except jinja2.TemplateSyntaxError as error:
        reason = (error.message or "").rstrip(".")
        yield f"`{key}` must be a Jinja template, but its line {error.lineno} can't be read: {reason}."
