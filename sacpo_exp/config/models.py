"""Language models: where weights come from, their shape, and low-rank adapters."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from sacpo_exp.config.bounds import LARGEST, bounded, count

#: Bytes, and the special tokens, of the tokenizer of a model from scratch.
LEAST_VOCABULARY = 256 + 3
#: What peft calls all linear layers but the head.
ALL_LINEAR = "all-linear"


class FloatType(Enum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    auto = "auto"  # of `optimization.autocast` and `generation.dtype`: bfloat16 where the device computes it natively


class ModelSource(Enum):
    embedded = "embedded"  # inside a Python package
    hub = "hub"  # Hugging Face hub, or its local cache
    path = "path"  # a folder
    scratch = "scratch"  # random weights, own tokenizer


@dataclass
class ModelShape:
    """The numbers that decide a model's size, by transformers' names."""

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
    """A model from scratch is made by `shape`; for others it is an estimate until their config.json is at hand."""

    name: str = MISSING
    source: ModelSource = MISSING
    path: str | None = None  # package, repository or folder, by source
    revision: str | None = None  # commit on the hub; version of the package
    file: str | None = None  # GGUF file inside the package
    shape: ModelShape | None = None
    parameters: int | None = bounded(least=1, most=LARGEST, default=None)  # for estimates; null: a Llama's
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

    def recipe(self) -> dict[str, Any]:
        """Return the fields that decide what is learnt, for ids."""
        values = {name: value for name, value in vars(self).items() if name != "name"}
        return values | {"target_modules": sorted(self.target_modules)}

    def tag(self) -> str:
        """Return a short name, the same for the same kind and rank: `lora16`, `qlora64`."""
        return f"{'qlora' if self.quantize else 'lora'}{self.r}"


def is_model_folder(text: str) -> bool:
    """Return whether a saved model is at this path."""
    return (Path(text).expanduser() / "config.json").is_file()


def lacks_chat_template(model: ModelConfig) -> bool:
    """Return whether no chat template is given and none is in the model's folder; code of its own may bring one."""
    folder = Path(model.path or "").expanduser()
    tokenizer = folder / "tokenizer_config.json"
    if model.chat_template is not None or model.trust_remote_code or not tokenizer.is_file():
        return False
    return not any(folder.glob("*chat_template*")) and "chat_template" not in tokenizer.read_text("utf-8", "replace")


def explain_chat_template(path: str, key: str) -> str:
    """Return the sentence about a model without a chat template."""
    return f"{path} has no chat template. Try: `{key}.chat_template=...`, or chat_template.jinja in a folder of yours"


def check_model(key: str, model: ModelConfig) -> Iterator[str]:
    """Check the source, shape and chat template of the model at `key`."""
    if model.source == ModelSource.path and not is_model_folder(model.path or ""):
        reason = (
            f"{model.path} has no config.json" if Path(model.path or "").exists() else f"{model.path} does not exist"
        )
        yield f"`{key}.path` must be the folder of a saved model, but {reason}. Try: {key}.path=DIR"
    elif model.source == ModelSource.path and lacks_chat_template(model):
        yield explain_chat_template(str(model.path), key)
    if model.source == ModelSource.scratch and model.shape is None:
        yield f"`{key}.shape` must give the shape of the model, but is null."
    if model.shape is not None:
        yield from _check_shape(f"{key}.shape", model.shape, model.source == ModelSource.scratch)
    if model.chat_template is not None:
        yield from _check_template(f"{key}.chat_template", model.chat_template)


def _check_shape(key: str, shape: ModelShape, is_from_scratch: bool) -> Iterator[str]:
    heads, keys, width = shape.num_attention_heads, shape.num_key_value_heads, shape.hidden_size
    if min(heads, keys) < 1:
        return  # outside their bounds
    if width % (2 * heads):  # rotary embeddings rotate pairs of numbers
        hint = f"{key}.hidden_size={max(1, width // (2 * heads)) * 2 * heads}"
        yield f"`{key}.hidden_size` must be a multiple of twice the {heads} heads, but is {width}. Try: {hint}"
    if heads % keys:
        hint = f"{key}.num_key_value_heads={heads}"
        yield f"`{key}.num_key_value_heads` must divide the {heads} heads, but is {keys}. Try: {hint}"
    if is_from_scratch and shape.vocab_size < LEAST_VOCABULARY:
        reason = "for a model from scratch, whose tokenizer knows every byte"
        yield f"`{key}.vocab_size` must be at least {LEAST_VOCABULARY} {reason}, but is {shape.vocab_size}."


def _check_template(key: str, template: str) -> Iterator[str]:
    """Parse the template as transformers does, without its `{% generation %}`, which Jinja does not know."""
    import jinja2

    try:
        plain = re.sub(r"\{%-?\s*(end)?generation\s*-?%\}", "", template)
        jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(plain)
    except jinja2.TemplateSyntaxError as error:
        yield f"`{key}` must be a Jinja template, but has an error in line {error.lineno}: {error.message}"
