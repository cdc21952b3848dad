"""Load policies, reward models and tokenizers from a folder or the hub, for training, generation and judging."""

import ctypes
import functools
import json
import logging
import mmap
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacpo_exp.config.judges import HeadForm
from sacpo_exp.config.models import ModelConfig, ModelSource, explain_chat_template
from sacpo_exp.data.hub import download, find_description, list_files
from sacpo_exp.errors import ConfigError
from sacpo_exp.store import content_hash
from sacpo_exp.store.manifest import hash_file

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: Names by which transformers finds weights in a folder.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
#: Files of model folders that are never read: pickles, then weights for other libraries, and texts.
UNREAD_SUFFIXES = (".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".onnx", ".md")
#: The field by which a configuration of each form of reward model says how many numbers it gives.
WIDTHS = {HeadForm.sequence_classification: "num_labels", HeadForm.score_head: "score_dim"}
#: Checkpoints without a bias leave it out; it is 0 then.
OPTIONAL_WEIGHTS = {"score_head.bias"}
#: Parameters of glibc's `mallopt`, from malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
#: Advice to `madvise` that loses no content, from Linux 5.4 on; Python's `mmap` does not name it.
MADV_PAGEOUT = 21


@dataclass(frozen=True)
class Location:
    """A folder with a model, or a repository of the hub with a revision."""

    path: str
    revision: str | None = None
    trust_remote_code: bool = False

    def arguments(self) -> dict[str, Any]:
        """Return keyword arguments of `from_pretrained`."""
        return {"revision": self.revision or "main", "trust_remote_code": self.trust_remote_code}

    @property
    def use_safetensors(self) -> bool | None:
        """True for a folder, which may come from anywhere: its pickles are neither opened nor hashed."""
        return True if Path(self.path).is_dir() else None


def external_location(model: ModelConfig) -> Location | None:
    """Return the location of a model that is used in place, or None for one that is first written into the store."""
    if model.source in (ModelSource.hub, ModelSource.path):
        path = str(Path(model.path or "").expanduser()) if model.source == ModelSource.path else model.path or ""
        return Location(path, model.revision, model.trust_remote_code)
    return None


def download_model(location: Location) -> Path:
    """Return the folder of a hub's model in the local cache, after download of what transformers reads of it.

    These are the small files and the weights: in safetensors, or where there are none, in pickles.

    Raises:
        ConfigError: the hub can't be reached or gives no access, and not everything is in the cache.
    """
    is_safe = bool(set(WEIGHTS) & set(list_files("model", location.path, location.revision)))
    start, end = ("model", ".safetensors") if is_safe else ("pytorch_model", ".bin")

    def is_wanted(name: str) -> bool:
        if name.endswith((".safetensors", ".bin")):  # others are copies in other forms
            return name.startswith(start) and name.endswith(end)
        return Path(name).suffix not in UNREAD_SUFFIXES

    try:
        return download("model", location.path, location.revision, is_wanted)
    except OSError as error:
        raise explain_unreachable(location, error) from error


def find_ends(location: Location) -> tuple[int, ...]:
    """Return the ids of the tokens that end a response by a model's generation_config.json; none if it has no such."""
    is_folder = Path(location.path).is_dir()
    folder = Path(location.path) if is_folder else find_description("model", location.path, location.revision)
    if folder is None or not (file := folder / "generation_config.json").is_file():
        return ()
    ends = json.loads(file.read_text("utf-8")).get("eos_token_id")
    return tuple(ends) if isinstance(ends, list) else () if ends is None else (ends,)


def hash_model(path: str) -> str:
    """Return the hash of every file of a model folder that may be read.

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
    """Return the hash of names and contents; nothing is read twice while no file changes."""
    return content_hash({file.relative_to(folder).as_posix(): hash_file(file) for file, *_ in files})


def load_policy(
    location: Location, dtype: str, device: str = "cpu", attention: str | None = None, **given: Any
) -> "PreTrainedModel":
    """Return a causal language model in evaluation mode; `given` are further arguments of `from_pretrained`.

    Raises:
        ConfigError: there is no such model, or the hub can't be reached.
    """
    import torch
    from transformers import AutoModelForCausalLM

    quiet_transformers()
    given |= location.arguments() | ({"attn_implementation": attention} if attention else {})
    try:
        policy = AutoModelForCausalLM.from_pretrained(
            location.path, dtype=getattr(torch, dtype), use_safetensors=location.use_safetensors, **given
        )
    except OSError as error:
        raise explain_unreachable(location, error) from error
    if device != "cpu":  # shards of ZeRO 3 stay where they are
        policy = policy.to(device)
    return policy.eval()


def count_positions(location: Location, tokenizer: "PreTrainedTokenizerBase") -> int:
    """Return the most tokens that a model reads: its positions, or fewer if its tokenizer says so."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(location.path, **location.arguments()).get_text_config()
    longest = int(tokenizer.model_max_length)
    return min(getattr(config, "max_position_embeddings", None) or longest, longest)


def load_tokenizer(location: Location, chat_template: str | None, key: str = "model") -> "PreTrainedTokenizerBase":
    """Return the tokenizer, padding on the left for generation; `chat_template` replaces its own unless null.

    `key` is the model's key in the configuration, for messages.

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
        raise ConfigError(explain_chat_template(location.path, key))
    try:
        messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
        tokenizer.apply_chat_template(messages, tokenize=False)
    except (TemplateError, TypeError, ValueError) as error:
        raise ConfigError(f"`{key}.chat_template` can't be applied: {error}. Try: another template") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer


def load_reward_model(form: HeadForm, location: Location, dtype: str, device: str, key: str) -> "PreTrainedModel":
    """Return a model in evaluation mode whose `logits` have shape (batch, 1); `key` names it in messages.

    Raises:
        ConfigError: there is no such model, it gives another number of scores, or it has no head of this form.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    quiet_transformers()
    auto = AutoModelForSequenceClassification if form == HeadForm.sequence_classification else _score_model_class()
    try:
        config = AutoConfig.from_pretrained(location.path, **location.arguments())
        if (width := getattr(config, WIDTHS[form], 1)) != 1:
            raise ConfigError(f"`{key}` must give one score, but {location.path} gives {width} (its {WIDTHS[form]}).")
        model, loaded = auto.from_pretrained(
            location.path,
            config=config,
            dtype=getattr(torch, dtype),
            use_safetensors=location.use_safetensors,
            output_loading_info=True,
            **location.arguments(),
        )
    except (OSError, ValueError) as error:
        raise explain_unreachable(location, error, key) from error
    # transformers fills in what a checkpoint lacks with random numbers.
    if missing := sorted(set(loaded["missing_keys"]) - OPTIONAL_WEIGHTS):
        raise ConfigError(f"`{key}` must have weights for its head, but {location.path} has no {missing[0]}.")
    return model.to(device).eval()


def _score_model_class() -> Any:
    """Return the class of Safe RLHF's reward and cost models (Dai et al. 2024).

    A LLaMA body in `model.*`, a linear `score_head.*` onto one number, read at the last token. Their `normalizer.*` is
    left alone: it neither changes which of two rewards is the higher nor on which side of 0 a cost lies.
    """
    import torch
    from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
    from transformers.modeling_outputs import SequenceClassifierOutput

    class ScoreModel(PreTrainedModel):  # type: ignore[misc]  # of a library without types
        base_model_prefix = "model"
        _supports_sdpa = True

        def __init__(self, config: PreTrainedConfig) -> None:
            super().__init__(config)
            self.model = AutoModel.from_config(config)
            self.score_head = torch.nn.Linear(config.hidden_size, 1)
            self.post_init()

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SequenceClassifierOutput:
            """Scores of sequences that are padded on the right."""
            states = self.model(input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
            rows = torch.arange(len(states), device=states.device)
            return SequenceClassifierOutput(logits=self.score_head(states[rows, attention_mask.sum(1) - 1]))

    return ScoreModel


def keep_freed_memory(is_kept: bool = True) -> None:
    """Let glibc keep freed blocks instead of handing each back to the kernel, or hand them back at once.

    Tensors of several megabytes come and go thousands of times per update; mapping and zeroing their pages anew each
    time took a fifth of a training step (benchmarks/training.py). Does nothing where the C library is another one.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(MMAP_THRESHOLD, 1 << 30 if is_kept else 1 << 20)
        mallopt(TRIM_THRESHOLD, (1 << 31) - 1 if is_kept else 1 << 20)


def page_out(tensor: "Tensor") -> None:
    """Have the kernel take the whole pages of a tensor out of memory; they are read again from its file when used."""
    start = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    size = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE - start
    if size > 0 and sys.platform.startswith("linux"):
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), MADV_PAGEOUT)


def quiet_transformers() -> None:
    """Turn off progress bars over weights, and warnings of what transformers 6 will rename and TRL 1.16 still sets."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    # imported by peft; it would advertise kernels to download
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*is deprecated", category=FutureWarning)


def explain_unreachable(location: Location, error: Exception, key: str = "model") -> ConfigError:
    """Return one sentence for the error of transformers when it can't load the model at `key`."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ConfigError(
        f"no model can be loaded from {location.path}: {reason} Without network, give a folder: "
        f"{'model=local' if key == 'model' else f'{key}.source=path'} {key}.path=DIR"
    )
