"""Our generation engine against one-by-one `model.generate`, greedy, on evaluation prompts of the demo."""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from composing import compose, describe_machine

from sacpo_exp.config.schema import RunConfig
from sacpo_exp.errors import ConfigError, run_reporting_errors

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: Prompts that both sides answer before the clock starts.
WARM_UP = 4
ONE_BY_ONE = "one by one"


@dataclass(frozen=True)
class Timing:
    """Seconds of every repeat and the responses, as token ids without end mark."""

    seconds: list[float]
    responses: list[list[int]]

    def figures(self, plain: "Timing") -> dict[str, float]:
        """What the table shows, against `plain`."""
        seconds, tokens = median(self.seconds), sum(map(len, self.responses))
        same = sum(a == b for a, b in zip(self.responses, plain.responses, strict=True))
        return {
            "seconds": seconds,
            "tokens": tokens,
            "tokens_per_second": tokens / seconds,
            "times_as_fast": median(plain.seconds) / seconds,
            "identical": same / len(self.responses),
        }


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2_135m", help="an option of conf/model (default: %(default)s)")
    parser.add_argument("--prompts", type=int, default=64, help="evaluation prompts (default: %(default)s)")
    parser.add_argument("--max-new-tokens", type=int, default=64, help="per response (default: %(default)s)")
    parser.add_argument("--dtype", default="bfloat16", help="of the weights on both sides (default: %(default)s)")
    parser.add_argument("--batches", help="batch sizes, such as 8,16,24,48 (default: that of hardware=cpu)")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each (default: %(default)s)")
    parser.add_argument("--outputs", type=Path, help="folder of a store that has, or will have, the model")
    parser.add_argument("--json", type=Path, help="also write everything measured into this file")
    run_reporting_errors(partial(benchmark, parser.parse_args()))


def benchmark(arguments: argparse.Namespace) -> None:
    """Time one by one and every batch size in this process, print the table, and write it into `--json`.

    Raises:
        ConfigError: an argument is wrong.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # as `make demo`
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        config = configure(arguments, arguments.outputs or Path(folder))
        batches = read_batches(arguments.batches or str(config.hardware.generation_batch_size))
        if arguments.repeats < 1:
            raise ConfigError(f"--repeats must be at least 1, but is {arguments.repeats}.")
        timings = measure(config, batches, arguments.repeats)
    rows = {name: timing.figures(timings[ONE_BY_ONE]) for name, timing in timings.items()}
    print_table(config, len(timings[ONE_BY_ONE].responses), rows)
    if arguments.json:
        settings = {name: value for name, value in vars(arguments).items() if name not in ("json", "outputs")}
        seconds = {name: timing.seconds for name, timing in timings.items()}
        content = {"settings": settings, "machine": describe_machine(), "rows": rows, "seconds": seconds}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def configure(arguments: argparse.Namespace, outputs: Path) -> RunConfig:
    """The model as it came, and how it is to speak."""
    overrides = [f"model={arguments.model}", "base=none", "order=helpful_only", f"paths.outputs={outputs}"]
    overrides += [f"prompts.limit={arguments.prompts}", f"generation.max_new_tokens={arguments.max_new_tokens}"]
    return compose([*overrides, f"generation.dtype={arguments.dtype}"])


def read_batches(text: str) -> list[int]:
    """Batch sizes from `8,16`. Raises ConfigError when one is no positive number."""
    words = text.split(",")
    if not all(word.strip().isdigit() and int(word) > 0 for word in words):
        raise ConfigError(f"--batches must be positive numbers with commas between them, but is {text!r}.")
    return [int(word) for word in words]


def measure(config: RunConfig, batches: Sequence[int], repeats: int) -> dict[str, Timing]:
    """Timings by name, one by one first, each repeat going once through all of them."""
    from sacpo_exp.data.prompts import load_prompts
    from sacpo_exp.pipeline import locate, open_run
    from sacpo_exp.training.models import load_policy, load_tokenizer

    run = open_run(config)
    location = locate(run, run.plan.model)
    tokenizer = load_tokenizer(location, config.model.chat_template)
    policy = load_policy(location, config.generation.dtype.value)
    prompts = [prompt["prompt"] for prompt in load_prompts(config.prompts, config.dataset)]
    limit = config.generation.max_new_tokens
    sides: dict[str, Callable[[Sequence[str]], list[list[int]]]] = {
        ONE_BY_ONE: partial(generate_singly, policy, tokenizer, limit)
    }
    sides |= {f"ours, batch {batch}": partial(generate_ours, policy, tokenizer, limit, batch) for batch in batches}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    responses = {}
    for generate in sides.values():
        generate(prompts[:WARM_UP])
    for number in range(1, repeats + 1):
        for name, generate in sides.items():
            start = time.perf_counter()
            responses[name] = generate(prompts)
            seconds[name].append(time.perf_counter() - start)
            print(f"{name}, run {number} of {repeats}: {seconds[name][-1]:.1f} s", file=sys.stderr)
    return {name: Timing(seconds[name], responses[name]) for name in sides}


def generate_singly(
    policy: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", limit: int, prompts: Sequence[str]
) -> list[list[int]]:
    """What one writes without an engine: a prompt at a time through `model.generate`."""
    responses = []
    for prompt in prompts:
        said = [{"role": "user", "content": prompt}]
        inputs = tokenizer.apply_chat_template(said, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        output = policy.generate(
            **inputs,
            max_new_tokens=limit,
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        new = output[0, inputs["input_ids"].shape[1] :].tolist()
        responses.append(new[: new.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in new else new)
    return responses


def generate_ours(
    policy: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", limit: int, batch: int, prompts: Sequence[str]
) -> list[list[int]]:
    """Through the engine, as an evaluation does; its journal is part of the work."""
    from sacpo_exp.evaluation.engine import Decoding, generate_responses

    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        decoding = Decoding(max_new_tokens=limit, batch_size=batch)
        found = generate_responses(policy, tokenizer, prompts, decoding, Path(folder), f"batch {batch}")
    return [response.tokens for response in found]


def print_table(config: RunConfig, n_prompts: int, rows: dict[str, dict[str, Any]]) -> None:
    """One line per way of generating; `identical` is the share of responses equal to those one by one."""
    limit, dtype = config.generation.max_new_tokens, config.generation.dtype.value
    print(f"{config.model.name} in {dtype}: {n_prompts} prompts, at most {limit} new tokens, greedy\n")
    print(f"{'':20}{'seconds':>10}{'tokens':>10}{'tokens/s':>10}{'ratio':>10}{'identical':>11}")
    for name, row in rows.items():
        print(
            f"{name:20}{row['seconds']:10.1f}{row['tokens']:10d}{row['tokens_per_second']:10.1f}"
            f"{row['times_as_fast']:10.2f}{row['identical']:11.0%}"
        )


if __name__ == "__main__":
    main()
