"""Every name that we pass to vLLM and read from it stands in its own source, which is read and not imported."""

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sacpo_exp.evaluation.vllm_engine import engine_arguments, sampling_arguments

FIND = "import importlib.util as u; s = u.find_spec('vllm'); print(s.submodule_search_locations[0] if s else '')"


@pytest.fixture(scope="module")
def source() -> Path:
    """The folder of vLLM's source; VLLM_SOURCE may name an unpacked wheel."""
    if folder := os.environ.get("VLLM_SOURCE"):
        return Path(folder)
    python = os.environ.get("VLLM_PYTHON", sys.executable)
    found = subprocess.run([python, "-I", "-c", FIND], capture_output=True, text=True, check=True).stdout.strip()
    if not found:
        pytest.skip("vllm is not here: set VLLM_PYTHON to a Python that has it, or VLLM_SOURCE to an unpacked wheel")
    return Path(found)


@pytest.fixture(scope="module")
def class_of(source: Path) -> Callable[[str, str], ast.ClassDef]:
    def read(file: str, name: str) -> ast.ClassDef:
        tree = ast.parse((source / file).read_text("utf-8"))
        return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)

    return read


def fields_of(node: ast.ClassDef) -> set[str]:
    return {
        item.target.id for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }


def arguments_of(node: ast.ClassDef, name: str) -> list[str]:
    function = next(item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == name)
    return [argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)]


def test_every_argument_of_the_engine_is_known(class_of: Callable[[str, str], ast.ClassDef]) -> None:
    known = set(arguments_of(class_of("entrypoints/llm.py", "LLM"), "__init__"))
    known |= fields_of(class_of("engine/arg_utils.py", "EngineArgs"))  # what LLM hands on
    assert set(engine_arguments("m", None, False, "float32", 1, 64)) - known == set()


def test_every_argument_of_sampling_is_known(class_of: Callable[[str, str], ast.ClassDef]) -> None:
    known = fields_of(class_of("sampling_params.py", "SamplingParams"))
    assert set(sampling_arguments(8, [2], ["x"], 1)) - known == set()


def test_prompts_are_given_and_answers_read_by_names_that_exist(class_of: Callable[[str, str], ast.ClassDef]) -> None:
    assert arguments_of(class_of("entrypoints/llm.py", "LLM"), "generate")[1:3] == ["prompts", "sampling_params"]
    assert "token_ids" in fields_of(class_of("outputs.py", "CompletionOutput"))
    assert "outputs" in arguments_of(class_of("outputs.py", "RequestOutput"), "__init__")


def test_a_prompt_of_token_ids_is_one_that_vllm_takes(source: Path) -> None:
    assert "prompt_token_ids: list[int]" in (source / "inputs/llm.py").read_text("utf-8")
