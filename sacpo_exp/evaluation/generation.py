"""Generate responses: in this process, in one process per device, or by vLLM in an environment of its own.

As a module (`-m sacpo_exp.evaluation.generation`) this file is the process of one device.
"""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacpo_exp.cluster.groups import group_environment
from sacpo_exp.cluster.supervision import Member, supervise
from sacpo_exp.cluster.worker import explain, log_of, start_logs, write_ending
from sacpo_exp.config.hardware import Accelerator, HardwareConfig, attention_of
from sacpo_exp.config.loading import quiet_libraries
from sacpo_exp.config.schema import Engine, GenerationConfig
from sacpo_exp.data.preferences import Key
from sacpo_exp.errors import ConfigError, LaunchError, sum_up
from sacpo_exp.evaluation import vllm_engine
from sacpo_exp.evaluation.engine import Decoding, Response, draw_seed, encode, finish, generate_responses
from sacpo_exp.stopping import StopFile
from sacpo_exp.store.manifest import write_whole
from sacpo_exp.training.models import Location

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

#: The version against which the arguments were checked; for CPUs it has to be built from source.
VLLM = "vllm==0.33.0"
FIND_VLLM = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
JOB, ANSWERS = "generation.json", "answers.json"


@dataclass(frozen=True)
class GenerationJob:
    """A policy and the prompts that it answers; `title` is that of the progress bar."""

    location: Location
    chat_template: str | None
    dtype: str
    device: str
    attention: str | None
    decoding: Decoding
    title: str
    prompts: list[str | Key]

    def load(self) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
        """Load the policy and its tokenizer; ConfigError if that fails."""
        from sacpo_exp.training.models import load_policy, load_tokenizer

        tokenizer = load_tokenizer(self.location, self.chat_template)
        return load_policy(self.location, self.dtype, self.device, self.attention), tokenizer

    def in_float32(self) -> "GenerationJob":
        """Return the job in float32, for numbers that 16 bits are too coarse for."""
        return replace(self, dtype="float32", attention=attention_of(self.attention, is_short=False))

    def answer(self, folder: Path, numbers: list[int] | None = None) -> list[Response]:
        """Answer the prompts, or those at `numbers`, in this process; `folder` holds the journal."""
        policy, tokenizer = self.load()
        numbers = list(range(len(self.prompts))) if numbers is None else numbers
        prompts = [self.prompts[number] for number in numbers]
        return generate_responses(policy, tokenizer, prompts, self.decoding, folder, self.title, numbers)


def check_engine(generation: GenerationConfig) -> None:
    """Raise ConfigError if the engine is vllm and the Python that is to run it does not have it."""
    if generation.engine != Engine.vllm:
        return
    python = generation.python or sys.executable
    try:
        is_missing = subprocess.run([python, "-I", "-c", FIND_VLLM], check=False, capture_output=True).returncode
    except OSError as error:
        raise ConfigError(
            f"`generation.python` must be a Python with vllm, but {python} can't be started: {error.strerror}."
        ) from error
    if is_missing:
        raise ConfigError(
            f"`generation.engine=vllm` needs a Python with vllm, but {python} has none. vllm needs an environment of "
            f"its own. Try: python -m venv DIR && DIR/bin/pip install {VLLM}, then generation.python=DIR/bin/python"
        )


def answer_all(
    job: GenerationJob, generation: GenerationConfig, hardware: HardwareConfig, folder: Path, logs: Path
) -> list[Response]:
    """Return the responses to the job's prompts, in their order.

    Args:
        folder: for this job alone; the next run continues from the files that a stopped run has written there.
        logs: folder for the output of other processes.

    Raises:
        ConfigError: the policy can't be loaded.
        LaunchError: a process failed.
        Interrupted: this process was asked to stop.
    """
    processes = hardware.processes // hardware.nodes
    sizes = [len(str(prompt)) for prompt in job.prompts]
    if generation.engine == Engine.vllm:
        shards = shard(sizes, processes // generation.tensor_parallel_size)
        return _answer_by_vllm(job, generation, shards, hardware, folder, logs)
    shards = shard(sizes, processes)
    return job.answer(folder) if len(shards) <= 1 else _answer_in_group(job, shards, hardware, folder, logs)


def shard(sizes: Sequence[int], count: int) -> list[list[int]]:
    """Return the indices of the prompts of each of `count` processes: as many for each, and of all lengths.

    With fewer prompts than processes there are only as many shards as prompts.
    """
    by_size = sorted(range(len(sizes)), key=lambda index: (sizes[index], index))
    return [sorted(by_size[first::count]) for first in range(min(count, len(sizes)))]


def _answer_in_group(
    job: GenerationJob, shards: Sequence[list[int]], hardware: HardwareConfig, folder: Path, logs: Path
) -> list[Response]:
    """Answer each shard by a process with its share of the cores, or the one device that it sees."""
    start_logs(logs)
    (logs / JOB).write_text(json.dumps(asdict(job)), "utf-8")
    members = {}
    for rank, numbers in enumerate(shards):
        part = folder / f"shard-{rank}-of-{len(shards)}"
        part.mkdir(exist_ok=True)
        arguments = [str(logs / JOB), str(part), json.dumps(numbers)]
        command = [sys.executable, "-m", "sacpo_exp.evaluation.generation", *arguments]
        environment = group_environment(hardware, os.environ) | {"RANK": str(rank)} | _devices(hardware, rank, 1)
        members[part / ANSWERS] = Member(command, environment, log_of(logs, rank))
    answers = _run(members, shards, logs, job.title)
    return [Response(**fields | {"index": number}) for number, fields in enumerate(answers)]


def _devices(hardware: HardwareConfig, rank: int, count: int) -> dict[str, str]:
    """Return the variable by which process `rank` sees its own `count` GPUs only; none on CPUs."""
    if hardware.accelerator != Accelerator.cuda:
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else list(map(str, range(hardware.processes // hardware.nodes)))
    return {"CUDA_VISIBLE_DEVICES": ",".join(names[rank * count : (rank + 1) * count])}


def _run(members: Mapping[Path, Member], shards: Sequence[list[int]], logs: Path, title: str) -> list[Any]:
    """Run the processes of all shards, and return what they wrote for each prompt, in the order of the prompts.

    Args:
        members: by the file that each writes; one that is there already, since it was finished earlier, is kept.

    Raises:
        SacpoError: that of the process that failed.
    """
    if missing := [member for file, member in members.items() if not file.is_file()]:
        log.info("starts   %d process(es) for %s, logs in %s", len(missing), title, os.path.relpath(logs))
        codes = supervise(missing, StopFile(logs), missing[0].output, 0)
        for member, code in zip(missing, codes, strict=True):
            if code < 0 and code != -signal.SIGTERM:  # the processes that were ended because another one failed
                name = signal.Signals(-code).name
                raise LaunchError(f"{title}: a process was ended by {name}. Its log: {os.path.relpath(member.output)}")
        if any(codes):
            raise explain(logs, missing[0].output, title)
    found: dict[int, Any] = {}
    for file, numbers in zip(members, shards, strict=True):
        found |= zip(numbers, json.loads(file.read_text("utf-8")), strict=True)
    return [found[number] for number in range(len(found))]


def _answer_by_vllm(
    job: GenerationJob,
    generation: GenerationConfig,
    shards: Sequence[list[int]],
    hardware: HardwareConfig,
    folder: Path,
    logs: Path,
) -> list[Response]:
    """Answer each shard by an engine of its own; a killed engine starts its shard again."""
    from sacpo_exp.training.models import load_tokenizer

    tokenizer, devices = load_tokenizer(job.location, job.chat_template), generation.tensor_parallel_size
    decoding, location = job.decoding, job.location
    prompts = [encode(tokenizer, prompt) for prompt in job.prompts]
    seeds = [None if decoding.seed is None else draw_seed(decoding.seed, number) for number in range(len(prompts))]
    ends = list(dict.fromkeys([tokenizer.eos_token_id, *decoding.ends]))
    longest = max(map(len, prompts), default=0) + decoding.max_new_tokens
    engine = vllm_engine.engine_arguments(
        location.path, location.revision, location.trust_remote_code, job.dtype, devices, longest
    )
    sampling = [vllm_engine.sampling_arguments(decoding.max_new_tokens, ends, decoding.stop, seed) for seed in seeds]
    start_logs(logs)
    members = {}
    for rank, numbers in enumerate(shards):
        part = folder / f"engine-{rank}-of-{len(shards)}"
        part.mkdir(exist_ok=True)
        request = {
            "engine": engine,
            "prompts": [prompts[i] for i in numbers],
            "sampling": [sampling[i] for i in numbers],
        }
        (part / vllm_engine.REQUEST).write_text(json.dumps(request), "utf-8")
        # Isolated: that Python has its own packages, and files beside the script are not its modules.
        command = [generation.python or sys.executable, "-I", "-u", str(vllm_engine.__file__), str(part)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment |= _devices(hardware, rank, devices)
        members[part / vllm_engine.TOKENS] = Member(command, environment, log_of(logs, rank))
    tokens = _run(members, shards, logs, job.title)
    finished = [finish(tokenizer, Response(index, []), new, decoding) for index, new in enumerate(tokens)]
    return [replace(each, finish_reason=each.finish_reason or "length") for each in finished]


def main() -> None:
    """Answer one shard: the job's file, the shard's folder and the numbers of its prompts are the arguments."""
    from pydantic import TypeAdapter

    if len(sys.argv) != 4:
        sys.exit("a worker is started by sacpo_exp.eval, not by hand. Try: sacpo eval")
    path, folder, numbers = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    rank = int(os.environ["RANK"])
    logging.basicConfig(level=logging.WARNING if rank else logging.INFO, format="%(message)s")
    try:
        quiet_libraries()
        # Prompts may hold what OmegaConf would interpolate.
        responses = TypeAdapter(GenerationJob).validate_json(path.read_bytes()).answer(folder, numbers)
        write_whole(folder / ANSWERS, json.dumps([asdict(response) for response in responses]))
    except Exception as error:
        write_ending(path.parent, rank, **sum_up(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
