"""What the processes of gpu_check.py do: `gpu_check_parts.py RESULT DEVICE PART ARGUMENT…`, the result as JSON."""

import ctypes
import importlib.util
import json
import os
import platform
import random
import socket
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

GIB = 2**30
#: Widths by size: hidden, intermediate, layers, heads, key-value heads, vocabulary. TinyLlama, Llama 3.2 3B, LLaMA 7B.
SHAPES = {
    "1B": (2048, 5632, 8, 32, 4, 32000),
    "3B": (3072, 8192, 6, 24, 8, 32000),
    "7B": (4096, 11008, 4, 32, 32, 32000),
    "S": (256, 704, 4, 4, 4, 2048),
    "M": (384, 1056, 4, 6, 6, 2048),
    "L": (512, 1408, 4, 8, 8, 2048),
    "answers": (256, 704, 2, 4, 4, 512),  # heads of 64, which all of vLLM's kernels take
}
FIELDS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
#: Pairs per update and tokens of a row; on a GPU those of `optimization=paper` with `hardware=a100x1`.
BATCH = {"cpu": (4, 64), "cuda": (16, 512)}
UPDATES, SAVE_AT = 9, 6


def main() -> None:
    """Run one part, and write what it found if this is the first rank."""
    result, device, part, *arguments = sys.argv[1:]
    parts = {"machine": machine, "collectives": collectives, "kernel": kernel, "attention": attention}
    found = (parts | {"stage": stage, "responses": responses})[part](device, Path(result).parent, *arguments)
    if os.environ.get("RANK", "0") == "0":
        Path(result).write_text(json.dumps(found), "utf-8")


def machine(device: str, _: Path) -> dict[str, Any]:
    """Return the number of devices, and names and versions for the table."""
    software = f"torch {torch.__version__}, Python {platform.python_version()}"
    if device == "cpu":
        return {"devices": 2, "name": f"{os.cpu_count()} CPU cores ({platform.machine()})", "software": software}
    count = torch.cuda.device_count()
    name = f"{count} × {torch.cuda.get_device_name()}" if count else ""
    return {"devices": count, "name": name, "software": f"{software}, CUDA {torch.version.cuda}"}


def collectives(device: str, _: Path) -> dict[str, Any]:
    """Check all_reduce, all_gather, reduce_scatter and broadcast over all ranks, and time the first."""
    from torch import distributed

    place = torch.device(device, int(os.environ["LOCAL_RANK"])) if device == "cuda" else torch.device("cpu")
    if device == "cuda":
        torch.cuda.set_device(place)
    backend = "nccl" if device == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=timedelta(minutes=2))
    rank, size = distributed.get_rank(), distributed.get_world_size()
    checks = []
    for dtype in (torch.float32, torch.bfloat16):
        total = torch.full((1000,), rank + 1, dtype=dtype, device=place)
        distributed.all_reduce(total)
        checks.append(bool((total == size * (size + 1) // 2).all()))
        gathered = torch.empty(size, dtype=dtype, device=place)
        distributed.all_gather_into_tensor(gathered, torch.full((1,), rank, dtype=dtype, device=place))
        checks.append(gathered.tolist() == list(range(size)))
        shard = torch.empty(1, dtype=dtype, device=place)
        distributed.reduce_scatter_tensor(shard, torch.arange(size, dtype=dtype, device=place))
        checks.append(shard.item() == rank * size)
        copied = torch.full((1,), rank + 7, dtype=dtype, device=place)
        distributed.broadcast(copied, 0)
        checks.append(copied.item() == 7)
    load = torch.ones((64 if device == "cuda" else 1) * 2**20, device=place)
    seconds = timed(lambda: distributed.all_reduce(load), 5)
    exact = torch.tensor(int(all(checks)), device=place)
    distributed.all_reduce(exact, op=distributed.ReduceOp.MIN)
    distributed.destroy_process_group()
    return {"exact": bool(exact.item()), "rate": load.nbytes / seconds / 1e9}


def timed(function: Any, count: int) -> float:
    """Return the median seconds of a call, after one that does not count."""
    seconds = []
    for _ in range(count + 1):
        start = time.perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return median(seconds[1:])


def distance(found: Tensor, expected: Tensor) -> float:
    """Return ‖found − expected‖ / ‖expected‖."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def kernel(device: str, _: Path) -> dict[str, Any]:
    """Compare TRL's log-probabilities, by Triton on a GPU and in tiles on a CPU, with a plain log-softmax."""
    from trl.kernels.chunked_logprob import ChunkedLogProbFunction

    torch.manual_seed(0)
    tokens, width, words = (2048, 1024, 32000) if device == "cuda" else (64, 64, 1000)
    limits, differences = {"float32": 1e-5, "bfloat16": 2e-2}, {}
    for name in list(limits) if device == "cuda" else ["float32"]:
        hidden = torch.randn(tokens, width, device=device)
        weight = torch.randn(words, width, device=device) / width**0.5
        targets, upstream = torch.randint(words, (tokens,), device=device), torch.randn(tokens, device=device)
        pairs = []
        for is_plain in (True, False):
            inputs = [value.to(getattr(torch, name), copy=True).requires_grad_() for value in (hidden, weight)]
            if is_plain:
                logits = inputs[0].float() @ inputs[1].float().T
                logps = logits.log_softmax(-1).gather(1, targets[:, None]).squeeze(1)
            else:
                logps = ChunkedLogProbFunction.apply(*inputs, None, targets, 1.0, 1000, None, 1.0, ())[0]
            (logps * upstream).sum().backward()
            pairs.append((logps.detach(), inputs[0].grad, inputs[1].grad))
        values = [distance(found, expected) for expected, found in zip(*pairs, strict=True)]
        differences |= {f"{name} {part}": value for part, value in zip(("log p", "∂h", "∂W"), values, strict=True)}
    return {
        "differences": differences,
        "limits": {name: limits[name] for name in {key.split()[0] for key in differences}},
    }


def attention(device: str, _: Path, implementation: str) -> dict[str, Any]:
    """Compare an implementation of attention with the one below it, on rows that are padded on the right."""
    from transformers import LlamaConfig, LlamaForCausalLM

    is_flash = implementation == "flash_attention_2"
    if is_flash and importlib.util.find_spec("flash_attn") is None:
        return {"skipped": "the package flash-attn is not installed"}
    dtype = torch.bfloat16 if is_flash else torch.float32
    width, length = (512, 256) if device == "cuda" else (64, 32)
    shape = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 2, "vocab_size": 1000}
    config = LlamaConfig(
        **shape, num_attention_heads=width // 32, num_key_value_heads=width // 64, initializer_range=0.1
    )
    torch.manual_seed(0)
    weights = LlamaForCausalLM(config).state_dict()
    ids = torch.randint(1000, (4, length), device=device)
    mask = (
        torch.arange(length, device=device) < torch.tensor([[length], [length // 2], [7], [length]], device=device)
    ).long()
    pairs = []
    for name in ("sdpa" if is_flash else "eager", implementation):
        model = LlamaForCausalLM._from_config(config, attn_implementation=name, dtype=dtype).to(device)
        model.load_state_dict(weights)
        labels = ids.masked_fill(mask == 0, -100)
        outputs = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False)
        outputs.loss.backward()
        pairs.append((outputs.logits[mask.bool()].detach(), model.model.layers[0].self_attn.k_proj.weight.grad))
    name = str(dtype).removeprefix("torch.")
    values = [distance(found, expected) for expected, found in zip(*pairs, strict=True)]
    differences = {f"{name} {part}": value for part, value in zip(("logits", "∂K"), values, strict=True)}
    return {"differences": differences, "limits": {name: 5e-2 if is_flash else 1e-4}}


def open_sized(device: str, folder: Path, size: str, *overrides: str) -> Any:
    """Return the run of a random model of a size."""
    os.environ["DS_ACCELERATOR"] = device
    from hydra import compose, initialize_config_dir

    from sacpo_exp.cluster.commands import to_config
    from sacpo_exp.config.loading import CONF, quiet_libraries, register_schemas
    from sacpo_exp.config.schema import RunConfig
    from sacpo_exp.pipeline import open_run

    quiet_libraries()
    register_schemas()
    *widths, words = SHAPES[size]
    chosen = ["model=nano", "base=none", "order=helpful_only", f"paths.outputs={folder / size}", *overrides]
    chosen += [f"model.shape.{name}={value}" for name, value in zip(FIELDS, widths, strict=True)]
    chosen += [f"model.shape.vocab_size={words}", "model.shape.tie_word_embeddings=false"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return open_run(to_config(compose("train", overrides=chosen), RunConfig, chosen))


def write_long_rows(path: Path, count: int, words: int) -> None:
    """Write preference rows of random words, longer than any `max_length`, so that every row fills it."""
    draw = random.Random(0)
    known = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(3, 9))) for _ in range(1000)]
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            texts = [" ".join(draw.choices(known, k=words)) for _ in range(3)]
            row = dict(zip(("prompt", "chosen", "rejected"), texts, strict=True))
            file.write(json.dumps(row) + "\n")


def stage(device: str, folder: Path, size: str) -> dict[str, Any]:
    """Train one DPO stage with ZeRO 2 in this process, as a worker would, and return what it took."""
    (folder / size).mkdir()
    pairs, length = BATCH[device]
    rows = folder / size / "rows.jsonl"
    write_long_rows(rows, pairs * UPDATES + 20, 2 * length)
    overrides = ["dataset=local", f"dataset.path={rows}", "dataset.criterion=helpfulness", "dataset.max_heldout_rows=4"]
    overrides += [f"optimization.max_length={length}", f"optimization.max_prompt_length={length // 4}"]
    overrides += [f"model.shape.max_position_embeddings={length}", "hardware.zero_stage=2"]
    overrides += [
        "optimization=paper",
        f"stages.helpfulness.global_batch_size={pairs}",
        f"++trainer.max_steps={UPDATES}",
    ]
    if device == "cuda":
        overrides += ["hardware=a100x1", "hardware.device_memory=null", f"hardware.per_device_train_batch_size={pairs}"]
    else:
        overrides += ["optimization.dtype=float32", f"hardware.per_device_eval_batch_size={pairs}"]
    run = open_sized(device, folder, size, *overrides)
    watch, peak, metrics = train_as_worker(run, folder / size)
    from sacpo_exp.cluster.memory import count_linear, count_parameters, find_shape, plan_stage

    shape = find_shape(run.config.model)
    plan = plan_stage(run.config, run.plan.stages[0].config, shape)
    rate = metrics["train/tokens"] / metrics["train/updates"] / median(watch.updates[2:])
    # 6 operations per weight of a matrix and token (Kaplan et al. 2020); what checkpointing computes again is no gain
    matrices = count_linear(shape) + shape.vocab_size * shape.hidden_size
    return {
        "parameters": count_parameters(shape),
        "estimate": plan.total - plan.runtime,
        "peak": peak,
        "tokens_per_second": rate,
        "flops": 6 * matrices * rate,
        "peak_flops": peak_flops(device),
        "checkpoint_bytes": watch.bytes,
        "checkpoint_seconds": watch.seconds,
    }


def train_as_worker(run: Any, folder: Path) -> tuple[Any, float, dict[str, Any]]:
    """Train the first stage of a plan; return a watch on it, its peak of memory in GiB, and its metrics."""
    import trl.trainer.dpo_trainer  # noqa: F401  # so that its memory is not counted

    from sacpo_exp.cluster.groups import deepspeed_settings
    from sacpo_exp.cluster.nodes import LOOPBACK
    from sacpo_exp.pipeline import make_job
    from sacpo_exp.stopping import SignalledStop
    from sacpo_exp.training import stage as training

    with socket.socket() as probe:
        probe.bind(("", 0))
        meeting = {"MASTER_ADDR": LOOPBACK, "MASTER_PORT": str(probe.getsockname()[1])}
    os.environ.update(meeting | {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"})
    policy, settings = folder / "policy", folder / "deepspeed.json"
    policy.mkdir()
    settings.write_text(json.dumps(deepspeed_settings(run.config.hardware)), "utf-8")
    job = make_job(run, run.plan.stages[0], run.plan.stages[0].start, policy)
    callbacks, watch = training.stage_callbacks, watch_of(policy)
    training.stage_callbacks = lambda *args, **kwargs: [*callbacks(*args, **kwargs), watch]
    before = start_memory()
    metrics = training.train_stage(replace(job, deepspeed=str(settings)), SignalledStop())
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else read_status("VmHWM") - before
    return watch, peak / GIB, metrics or {}


def watch_of(policy: Path) -> Any:
    """Return a callback that notes the seconds of every update, and the seconds and bytes of the first checkpoint."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        updates: list[float] = []  # noqa: RUF012
        seconds, bytes, start = 0.0, 0, 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.start = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.updates.append(time.perf_counter() - self.start)
            self.start = time.perf_counter()
            control.should_save |= state.global_step == SAVE_AT

        def on_save(self, *_: Any, **__: Any) -> None:
            if not self.bytes:
                self.seconds = time.perf_counter() - self.start
                self.bytes = sum(path.stat().st_size for path in policy.glob("checkpoints/**/*") if path.is_file())

    return Watch()


def start_memory() -> int:
    """Begin to measure the peak of memory; return the resident bytes of now."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return 0
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    return read_status("VmRSS")


def read_status(key: str) -> int:
    """Return the bytes that Linux shows for this process."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def peak_flops(device: str) -> float:
    """Return the operations per second of one large matrix product, in the dtype of the stage."""
    size, dtype = (8192, torch.bfloat16) if device == "cuda" else (1024, torch.float32)
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / timed(lambda: left @ right, 10)


def responses(device: str, folder: Path, engine: str) -> dict[str, Any]:
    """Compare our greedy tokens on this device with `model.generate` one by one on the CPU, or vLLM's with ours."""
    from sacpo_exp.config.schema import Engine
    from sacpo_exp.data.demo import generate_rows
    from sacpo_exp.errors import ConfigError

    work = folder / f"answers-{engine}"
    run = open_sized(device, work, "answers", *(["hardware=a100x1"] if device == "cuda" else []))
    from sacpo_exp.evaluation.engine import Decoding
    from sacpo_exp.evaluation.generation import GenerationJob, answer_all, check_engine
    from sacpo_exp.pipeline import locate

    python = os.environ.get("VLLM_PYTHON", sys.executable)
    by_vllm = replace(run.config.generation, engine=Engine.vllm, python=python)
    if engine == "vllm":
        try:
            check_engine(by_vllm)
        except ConfigError:
            return {"skipped": "vllm is not installed in the Python that VLLM_PYTHON names"}
    prompts = [row["prompt"] for row in generate_rows("heldout", 0)][:16]
    decoding, place = Decoding(24, 8), locate(run, run.plan.model)
    template = run.config.model.chat_template
    job = GenerationJob(place, template, "float32", device, None, decoding, "check", list(dict.fromkeys(prompts)))
    ours = [answer.tokens for answer in job.answer(work)]
    if engine == "vllm":
        (work / "vllm").mkdir()
        answers = answer_all(job, by_vllm, run.config.hardware, work / "vllm", work / "logs")
        others = [answer.tokens for answer in answers]
    else:
        others = answer_one_by_one(replace(job, device="cpu"))
    return {"same": sum(map(list.__eq__, ours, others)) / len(ours), "count": len(ours)}


def answer_one_by_one(job: Any) -> list[list[int]]:
    """Return the tokens of `model.generate` for one prompt after the other."""
    from sacpo_exp.evaluation.engine import encode

    policy, tokenizer = job.load()
    answers = []
    for prompt in job.prompts:
        ids = torch.tensor([encode(tokenizer, prompt)])
        length = job.decoding.max_new_tokens
        output = policy.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=length, do_sample=False)
        tokens = output[0, ids.shape[1] :].tolist()
        end = tokenizer.eos_token_id
        answers.append(tokens[: tokens.index(end)] if end in tokens else tokens)
    return answers


if __name__ == "__main__":
    main()
