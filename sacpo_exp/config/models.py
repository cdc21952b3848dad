"""Language models: where weights come from, their shape, and what is trained of them."""

from dataclasses import dataclass, field
from enum import Enum

from omegaconf import MISSING


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

    vocab_size: int = MISSING
    hidden_size: int = MISSING
    intermediate_size: int = MISSING
    num_hidden_layers: int = MISSING
    num_attention_heads: int = MISSING
    num_key_value_heads: int = MISSING
    max_position_embeddings: int = MISSING
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
    parameters: int | None = None  # where the shape is not a Llama's: for estimates
    chat_template: str | None = None  # null: the model's own
    stop: list[str] = field(default_factory=list)
    trust_remote_code: bool = False


@dataclass
class AdapterConfig:
    """Low-rank adapters (Hu et al. 2022), on weights quantised to 4 bits with `quantize` (Dettmers et al. 2023)."""

    name: str = MISSING
    r: int = MISSING
    lora_alpha: float = MISSING
    lora_dropout: float = MISSING
    target_modules: list[str] = MISSING
    quantize: bool = MISSING
