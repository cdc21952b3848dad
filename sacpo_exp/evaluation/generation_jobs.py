"""What is to be generated, as a file that another process can read."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sacpo_exp.evaluation.engine import Decoding, Response, generate_responses
from sacpo_exp.training.models import Location

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ANSWERS = "answers.json"


@dataclass(frozen=True)
class GenerationJob:
    """A policy and the prompts that it answers.

    Attributes:
        device, attention: as `load_policy` takes them.
        title: of the progress bar.
    """

    location: Location
    chat_template: str | None
    dtype: str
    device: str
    attention: str | None
    decoding: Decoding
    title: str
    prompts: list[str]

    def write(self, path: Path) -> None:
        """As JSON: prompts may hold what YAML or OmegaConf would read as more than text."""
        path.write_text(json.dumps(asdict(self)), "utf-8")

    @staticmethod
    def read(path: Path) -> "GenerationJob":
        """What `write` wrote."""
        said = json.loads(path.read_text("utf-8"))
        location, decoding = Location(**said.pop("location")), Decoding(**said.pop("decoding"))
        return GenerationJob(location=location, decoding=decoding, **said)


def load(job: GenerationJob) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """The job's policy and its tokenizer.

    Raises:
        ConfigError: they can't be loaded.
    """
    from sacpo_exp.training.models import load_policy, load_tokenizer

    tokenizer = load_tokenizer(job.location, job.chat_template)
    return load_policy(job.location, job.dtype, job.device, job.attention), tokenizer


def answer(job: GenerationJob, folder: Path, numbers: list[int] | None = None) -> list[Response]:
    """Responses to the job's prompts, or to those at `numbers`; `folder` holds the journal.

    Raises:
        ConfigError: the policy can't be loaded.
    """
    policy, tokenizer = load(job)
    numbers = list(range(len(job.prompts))) if numbers is None else numbers
    prompts = [job.prompts[number] for number in numbers]
    return generate_responses(policy, tokenizer, prompts, job.decoding, folder, job.title, numbers)


def write_answers(responses: list[Response], folder: Path) -> None:
    """Leave the responses for the parent, all of them or none."""
    partial = folder / f"{ANSWERS}.partial"
    partial.write_text(json.dumps([asdict(response) for response in responses]), "utf-8")
    partial.rename(folder / ANSWERS)


def read_answers(folder: Path) -> list[Response]:
    """What `write_answers` wrote."""
    return [Response(**said) for said in json.loads((folder / ANSWERS).read_text("utf-8"))]
