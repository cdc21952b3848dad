"""Adapters before torch: problems, names, recipes."""

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sacpo_exp.config.adapters import adapter_recipe
from sacpo_exp.config.models import AdapterConfig

PROBLEMS = {
    "r": ("adapter.r=0", "`adapter.r` must be at least 1, but is 0."),
    "alpha": ("adapter.lora_alpha=-1", "`adapter.lora_alpha` must be greater than 0, but is -1."),
    "dropout": ("adapter.lora_dropout=1", "`adapter.lora_dropout` must be at least 0 and below 1, but is 1."),
    "negative dropout": ("adapter.lora_dropout=-0.1", "must be at least 0 and below 1, but is -0.1."),
    "no layers": ("adapter.target_modules=[]", "must name layers, but is empty."),
    "all and one": ("adapter.target_modules=[all-linear,q_proj]", "a list of names, but mixes them."),
    "the head": ("adapter.target_modules=[lm_head]", "must name linear layers inside the model, but has lm_head."),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_a_wrong_adapter_is_told_in_one_sentence(problems_of: Callable[..., list[str]], case: str) -> None:
    override, expected = PROBLEMS[case]
    (problem,) = problems_of("adapter=lora", override)
    assert expected in problem


def test_quantised_weights_can_t_be_sharded(problems_of: Callable[..., list[str]]) -> None:
    (problem,) = problems_of("adapter=qlora", "hardware=cpu_x2", "hardware.zero_stage=3")
    assert problem.startswith("`hardware.zero_stage=3` can't be used with quantised weights")


def test_without_bitsandbytes_qlora_says_what_to_install(cli: Callable[..., Any], tmp_path: Path) -> None:
    """A Python path that lacks the library, as an installation without the extra does."""
    spec = importlib.util.find_spec("bitsandbytes")
    assert spec is not None
    assert spec.origin is not None
    bare = tmp_path / "bare"
    bare.mkdir()
    for entry in Path(spec.origin).parents[1].iterdir():
        if not entry.name.startswith("bitsandbytes"):
            (bare / entry.name).symlink_to(entry)
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys; sys.path[:] = [{str(bare)!r} if path.endswith('site-packages') else path for path in sys.path]"
    )
    path = f"{tmp_path}:{Path(__file__).parents[3]}"
    result = cli("train", "model=tiny", "adapter=qlora", light=True, variables={"PYTHONPATH": path})
    shutil.rmtree(bare)
    assert result.code == 2, result.stderr
    assert "which is not installed. Try: pip install bitsandbytes==" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_name_and_the_order_of_layers_are_no_part_of_the_recipe() -> None:
    one = AdapterConfig("a", 8, 16.0, 0.0, ["q_proj", "v_proj"], False)
    other = AdapterConfig("b", 8, 16.0, 0.0, ["v_proj", "q_proj"], False)
    assert adapter_recipe(one) == adapter_recipe(other)
