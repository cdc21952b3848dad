"""Load policies and tokenizers from a folder or the hub, the same way for training, generation and judging."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacpo_exp.config.models import ModelConfig, ModelSource
from sacpo_exp.errors import ConfigError
from sacpo_exp.store import content_hash
from sacpo_exp.store.manifest import hash_file

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: Names by which transformers finds weights in a folder.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
#: Files of model folders that are never read: pickles, then weights for other libraries, and texts.
UNREAD_SUFFIXES = (".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".onnx", ".md")


@dataclass(frozen=True)
class Location:
    """Where a model's files are: a folder, or a repository with a revision."""

    path: str
    revision: str | None = None
    trust_remote_code: bool = False

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `from_pretrained`."""
        return {"revision": self.revision or "main", "trust_remote_code": self.trust_remote_code}

    @property
    def use_safetensors(self) -> bool | None:
        """True for a folder, which may come from anywhere: its pickles are not opened, and not in its hash."""
        return True if Path(self.path).is_dir() else None


def external_location(model: ModelConfig) -> Location | None:
    """Where a model lies that is used in place, or None for one that is first written into the store."""
    if model.source in (ModelSource.hub, ModelSource.path):
        path = str(Path(model.path or "").expanduser()) if model.source == ModelSource.path else model.path or ""
        return Location(path, model.revision, model.trust_remote_code)
    return None


def hash_model(path: str) -> str:
    """Hash of every file of a model folder that may be read.

    Raises:
        ConfigError: there are no weights in safetensors, or they belong to a model elsewhere.
    """
    folder = Path(path).expanduser()
    if (folder / "adapter_config.json").is_file():
        raise ConfigError(f"{path} holds an adapter, and its model lies elsewhere. Try: merge it into its model first")
    if not any((folder / name).is_file() for name in WEIGHTS):
        pickles = sorted(file.name for file in folder.iterdir() if file.suffix in UNREAD_SUFFIXES[:3])
        found = f"only {pickles[0]}, and pickles are not opened" if pickles else "none"
        raise ConfigError(
            f"{path} must hold weights in safetensors ({WEIGHTS[0]}), but has {found}. "
            "Try: load it with transformers where you trust it, and save it with save_pretrained"
        )
    files = [*folder.iterdir(), *(folder / "additional_chat_templates").glob("*"), *folder.rglob("*/*.py")]
    stats = {file: file.stat() for file in files if file.is_file() and file.suffix not in UNREAD_SUFFIXES}
    return _hash_files(
        folder, tuple((file, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for file, s in sorted(stats.items()))
    )


@functools.lru_cache(maxsize=16)
def _hash_files(folder: Path, files: tuple[tuple[Path, int, int, int, int], ...]) -> str:
    """Hash of names and contents; nothing is read twice while no file is touched."""
    return content_hash({file.relative_to(folder).as_posix(): hash_file(file) for file, *_ in files})


def load_policy(location: Location, dtype: str, device: str = "cpu", attention: str | None = None) -> "PreTrainedModel":
    """A causal language model in evaluation mode.

    Raises:
        ConfigError: there is no such model, or the hub can't be reached.
    """
    import torch
    from transformers import AutoModelForCausalLM

    quiet_transformers()
    arguments = location.arguments() | ({"attn_implementation": attention} if attention else {})
    try:
        policy = AutoModelForCausalLM.from_pretrained(
            location.path, dtype=getattr(torch, dtype), use_safetensors=location.use_safetensors, **arguments
        )
    except OSError as error:
        raise explain_unreachable(location, error) from error
    return policy.to(device).eval()


def load_tokenizer(location: Location, chat_template: str | None, key: str = "model") -> "PreTrainedTokenizerBase":
    """The tokenizer, padding on the left for generation; `chat_template` replaces its own unless null.

    `key` is where the model stands in the configuration, for messages.

    Raises:
        ConfigError: there is no tokenizer, or no chat template.
    """
    from jinja2 import TemplateError
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(location.path, **location.arguments())
    except OSError as error:
        raise explain_unreachable(location, error, key) from error
    except ValueError as error:  # whose last line says what would help
        reason = str(error).strip().splitlines()[-1]
        raise ConfigError(f"{location.path} has no tokenizer that can be read: {reason}") from error
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    if tokenizer.chat_template is None:
        raise ConfigError(f"{location.path} has no chat template. Give one: `{key}.chat_template=...`")
    try:
        said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
        tokenizer.apply_chat_template(said, tokenize=False)
    except (TemplateError, TypeError, ValueError) as error:
        raise ConfigError(f"`{key}.chat_template` can't be applied: {error}. Try: another template") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer


def quiet_transformers() -> None:
    """No progress bars over weights, no warnings of what transformers 6 will rename and TRL 1.16 still sets."""
    import logging
    import warnings

    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    # peft imports it where it is installed, and it tells of kernels that it could download
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*is deprecated", category=FutureWarning)


def explain_unreachable(location: Location, error: Exception, key: str = "model") -> ConfigError:
    """One sentence for what transformers says when it can't load the model at `key`."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ConfigError(
        f"no model can be loaded from {location.path}: {reason} Without network, give a folder: "
        f"{'model=local' if key == 'model' else f'{key}.source=path'} {key}.path=DIR"
    )
