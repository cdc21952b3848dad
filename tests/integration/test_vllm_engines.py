"""One vLLM engine per device, or per `tensor_parallel_size` of them; a stand-in for the library tells what it saw."""

import sys
import venv
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import pytest
from tiny import make_config

from sacpo_exp.config.hardware import Accelerator
from sacpo_exp.config.schema import Engine, GenerationConfig
from sacpo_exp.evaluation.engine import Decoding, encode
from sacpo_exp.evaluation.generation import GenerationJob, answer_all
from sacpo_exp.pipeline import locate, open_run
from sacpo_exp.training.models import load_tokenizer

#: Answers with the prompt's own tokens, and adds a line of what it saw to the file beside it.
STAND_IN = """
import os
from pathlib import Path
from types import SimpleNamespace as N

class SamplingParams:
    def __init__(self, **arguments): pass

class LLM:
    def __init__(self, tensor_parallel_size, **arguments): self.shared = tensor_parallel_size
    def generate(self, prompts, sampling):
        with (Path(__file__).parent / "seen").open("a") as file:
            file.write(f"{self.shared} {os.environ['CUDA_VISIBLE_DEVICES']} {len(prompts)}\\n")
        return [N(outputs=[N(token_ids=prompt["prompt_token_ids"])]) for prompt in prompts]
"""
PROMPTS = ["Hi", "How do I bake bread?", "Why?", "What is ${this}?", "Say a word."]


@pytest.mark.parametrize(
    ("shared", "expected"), [(1, ["1 4 2", "1 5 1", "1 6 1", "1 7 1"]), (2, ["2 4,5 3", "2 6,7 2"])]
)
def test_an_engine_per_device_answers_its_part(
    outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: int, expected: list[str]
) -> None:
    venv.create(tmp_path / "env", symlinks=True)
    packages = next((tmp_path / "env").glob("lib/python*/site-packages"))
    (packages / "vllm.py").write_text(STAND_IN, "utf-8")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    config = make_config(outputs)
    location = locate(run := open_run(config), run.plan.model)
    hardware = replace(config.hardware, accelerator=Accelerator.cuda, processes=4)
    python = str(tmp_path / "env" / "bin" / Path(sys.executable).name)
    generation = GenerationConfig(engine=Engine.vllm, python=python, tensor_parallel_size=shared)
    job = GenerationJob(location, None, "float32", "cuda", None, Decoding(8, 2), "answers", PROMPTS)
    (folder := tmp_path / "job").mkdir()
    for _ in range(2):  # the second time everything is finished
        responses = answer_all(job, generation, hardware, folder, tmp_path / "logs")
    tokenizer = load_tokenizer(location, None)
    expected_tokens = [list(takewhile(tokenizer.eos_token_id.__ne__, encode(tokenizer, text))) for text in PROMPTS]
    assert [response.tokens for response in responses] == expected_tokens
    assert sorted((packages / "seen").read_text().splitlines()) == expected
