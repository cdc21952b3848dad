"""Have a policy answer prompts: in this process, in one per device, or by vLLM in an environment of its own."""

import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sacpo_exp.cluster.devices import LOOPBACK
from sacpo_exp.cluster.groups import Place, group_environment
from sacpo_exp.cluster.supervision import Member, supervise
from sacpo_exp.cluster.worker import log_of, read_endings, start_logs
from sacpo_exp.config.hardware import Accelerator, HardwareConfig
from sacpo_exp.config.schema import Engine, GenerationConfig
from sacpo_exp.errors import ConfigError, LaunchError, SacpoError
from sacpo_exp.evaluation import vllm_engine
from sacpo_exp.evaluation.engine import Response, draw_seed, encode, finish
from sacpo_exp.evaluation.generation_jobs import ANSWERS, GenerationJob, answer, read_answers
from sacpo_exp.evaluation.sharding import shard
from sacpo_exp.stopping import StopFile

log = logging.getLogger(__name__)

#: What its arguments were checked against; for CPUs it has to be built from its sources.
VLLM = "vllm==0.33.0"
FIND_VLLM = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"


def check_engine(generation: GenerationConfig) -> None:
    """Raises ConfigError where the engine is vllm and the Python that is to run it has none."""
    if generation.engine != Engine.vllm:
        return
    python = generation.python
    if python is None:
        if importlib.util.find_spec("vllm") is None:
            raise ConfigError(
                "`generation.engine=vllm` needs vllm, which is not installed here; it wants an environment of its own. "
                f"Try: python -m venv DIR && DIR/bin/pip install {VLLM}, then "
                "generation.python=DIR/bin/python"
            )
        return
    try:
        has_vllm = not subprocess.run([python, "-I", "-c", FIND_VLLM], check=False, capture_output=True).returncode
    except OSError as error:
        raise ConfigError(
            f"`generation.python` must be a Python with vllm, but {python} can't be started: {error.strerror}."
        ) from error
    if not has_vllm:
        raise ConfigError(
            f"`generation.python` must be a Python with vllm, but {python} has none. "
            f"Try: {python} -m pip install {VLLM}"
        )


def answer_all(
    job: GenerationJob, generation: GenerationConfig, hardware: HardwareConfig, folder: Path, logs: Path
) -> list[Response]:
    """Responses to the job's prompts, in their order.

    Args:
        folder: for this job alone; what a run leaves there the next one goes on from.
        logs: folder for what processes print, where there are any.

    Raises:
        ConfigError: the policy can't be loaded.
        LaunchError: a process failed.
        Interrupted: this process was asked to stop.
    """
    processes = hardware.processes // hardware.nodes
    if generation.engine == Engine.vllm:
        return _answer_by_vllm(job, generation, hardware, folder, logs)
    shards = shard([len(prompt) for prompt in job.prompts], processes)
    return answer(job, folder) if len(shards) <= 1 else _answer_in_group(job, shards, hardware, folder, logs)


def _answer_in_group(
    job: GenerationJob, shards: Sequence[list[int]], hardware: HardwareConfig, folder: Path, logs: Path
) -> list[Response]:
    """Each shard by a process with a device of its own."""
    start_logs(logs)
    path = logs / "generation.json"
    job.write(path)
    folders = [folder / f"shard-{rank}-of-{len(shards)}" for rank in range(len(shards))]
    members = []
    for rank, (part, numbers) in enumerate(zip(folders, shards, strict=True)):
        part.mkdir(exist_ok=True)
        if not (part / ANSWERS).is_file():
            command = [
                sys.executable,
                "-m",
                "sacpo_exp.evaluation.generating_worker",
                str(path),
                str(part),
                json.dumps(numbers),
            ]
            members.append(Member(command, _environment(hardware, rank), log_of(logs, rank)))
    log.info("starts   %d processes for %s, logs in %s", len(members), job.title, os.path.relpath(logs))
    if members:
        codes = supervise(members, StopFile(logs), members[0].output, 0)
        if any(codes):
            raise _explain(members, codes, logs, job.title)
    responses = {
        numbers[response.index]: response
        for part, numbers in zip(folders, shards, strict=True)
        for response in read_answers(part)
    }
    return [Response(**(vars(responses[index]) | {"index": index})) for index in range(len(job.prompts))]


def _answer_by_vllm(
    job: GenerationJob, generation: GenerationConfig, hardware: HardwareConfig, folder: Path, logs: Path
) -> list[Response]:
    """All prompts in one process, which splits the weights over the devices; a killed one begins anew."""
    from sacpo_exp.training.models import load_tokenizer

    tokenizer = load_tokenizer(job.location, job.chat_template)
    decoding, end = job.decoding, tokenizer.eos_token_id
    prompts = [encode(tokenizer, prompt) for prompt in job.prompts]
    seeds = [None if decoding.seed is None else draw_seed(decoding.seed, number) for number in range(len(prompts))]
    location, limit = job.location, decoding.max_new_tokens
    longest = max(map(len, prompts), default=0) + limit
    engine = vllm_engine.engine_arguments(
        location.path,
        location.revision,
        location.trust_remote_code,
        job.dtype,
        hardware.processes // hardware.nodes,
        longest,
    )
    sampling = [vllm_engine.sampling_arguments(limit, end, decoding.stop, seed) for seed in seeds]
    request = {"engine": engine, "prompts": prompts, "sampling": sampling}
    (folder / vllm_engine.REQUEST).write_text(json.dumps(request), "utf-8")
    start_logs(logs)
    # Isolated: that Python has packages of its own, and files beside the script are no modules of it.
    command = [generation.python or sys.executable, "-I", "-u", str(vllm_engine.__file__), str(folder)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    member = Member(command, environment, log_of(logs, 0))
    log.info("starts   vLLM for %s, log in %s", job.title, os.path.relpath(member.output))
    codes = supervise([member], StopFile(logs), member.output, 0)
    if any(codes):
        raise _explain([member], codes, logs, job.title)
    tokens = json.loads((folder / vllm_engine.TOKENS).read_text("utf-8"))
    finished = [finish(tokenizer, Response(index, []), ids, decoding) for index, ids in enumerate(tokens)]
    return [Response(**(vars(one) | {"finish_reason": one.finish_reason or "length"})) for one in finished]


def _environment(hardware: HardwareConfig, rank: int) -> dict[str, str]:
    """A member's, with its share of the cores, or the one device that it sees."""
    environment = group_environment(hardware, Place(0, LOOPBACK, 0), os.environ) | {"RANK": str(rank)}
    if hardware.accelerator == Accelerator.cuda:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        environment["CUDA_VISIBLE_DEVICES"] = visible.split(",")[rank] if visible else str(rank)
    return environment


def _explain(members: Sequence[Member], codes: Sequence[int], logs: Path, what: str) -> SacpoError:
    """The error of a group that failed, with where the log of its first failure lies."""
    for ending in read_endings(logs):
        if ending.exit_code == ConfigError.exit_code:
            return ConfigError(ending.message)
        if ending.exit_code:
            return LaunchError(f"{what}: {ending.message} Its log: {os.path.relpath(log_of(logs, ending.rank))}")
    # Those that did not fail themselves were ended with SIGTERM's code.
    member, code = next(
        ((m, c) for m, c in zip(members, codes, strict=True) if c not in (0, -signal.SIGTERM)),
        (members[0], -signal.SIGTERM),
    )
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return LaunchError(f"{what}: a process {how}. Its log: {os.path.relpath(member.output)}")
