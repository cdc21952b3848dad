"""Decoding by vLLM: the only file that imports it, and a script that runs in vLLM's own environment.

vLLM pins another version of transformers than training needs, so it usually has an environment of its own. As a
script this file reads a request from JSON, imports nothing of this package, and writes token ids, which are decoded
like those of `hf`. Written for vllm 0.33.0.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REQUEST, TOKENS = "request.json", "tokens.json"


def engine_arguments(
    path: str, revision: str | None, trust_remote_code: bool, dtype: str, devices: int, max_model_len: int
) -> dict[str, Any]:
    """Return the keyword arguments of `vllm.LLM`, one engine, which splits the weights over `devices`."""
    return {
        "model": path,
        "revision": revision,
        "tokenizer_revision": revision,
        "trust_remote_code": trust_remote_code,
        "dtype": dtype,
        "tensor_parallel_size": devices,
        "max_model_len": max_model_len,
        "generation_config": "vllm",  # the model's own would change greedy decoding
        "enable_prefix_caching": False,  # prompts share a template only, and reuse may round differently
    }


def sampling_arguments(max_new_tokens: int, ends: list[int], stop: Sequence[str], seed: int | None) -> dict[str, Any]:
    """Return the keyword arguments of `vllm.SamplingParams`: greedy, or at temperature 1 with the response's seed.

    `ends` are the ids of end marks. Stop strings are included and cut off later by `finish`. vLLM
    does not get those that begin with white space, because it would find them before a response begins.
    """
    return {
        "max_tokens": max_new_tokens,
        "temperature": 0.0 if seed is None else 1.0,
        "seed": seed,
        "stop": [text for text in stop if not text[:1].isspace()],
        "include_stop_str_in_output": True,
        "ignore_eos": True,
        "stop_token_ids": ends,
    }


def main() -> None:
    """Answer the request in the folder named on the command line."""
    from vllm import LLM, SamplingParams

    folder = Path(sys.argv[1])
    request = json.loads((folder / REQUEST).read_text("utf-8"))
    prompts = [{"prompt_token_ids": ids} for ids in request["prompts"]]
    sampling = [SamplingParams(**arguments) for arguments in request["sampling"]]
    outputs = LLM(**request["engine"]).generate(prompts, sampling)
    tokens = [list(output.outputs[0].token_ids) for output in outputs]
    partial = folder / f"{TOKENS}.partial"
    partial.write_text(json.dumps(tokens), "utf-8")
    partial.rename(folder / TOKENS)


if __name__ == "__main__":  # the processes that vLLM starts import this file too
    main()
