"""The documentation builds, links lead somewhere, and the reference has every setting."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

REPO = Path(__file__).parents[2]

SETTINGS = {
    "train": [
        ["adapter=qlora", "tracker=[wandb,mlflow]", "dataset=pku_saferlhf_30k", "prompts=sacpo"],
        ["model=alpaca_7b", "base=none", "hardware=a100x8", "generation=paper"],
    ],
    "eval": [["judge=openai"], ["judge=reward_model"], ["judge=scorer"]],
    "choose": [["threshold=0.6"]],
    "multiplier": [["threshold=0.6"]],
    "chat": [[]],
    "export": [[]],
    "report": [[]],
    "oracle": [[]],
}


@pytest.fixture(scope="module")
def reference() -> str:
    spec = importlib.util.spec_from_file_location("reference", REPO / "docs" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.make_reference())


def build(repo: Path) -> subprocess.CompletedProcess[str]:
    """What `make docs` does, without network."""
    environment = os.environ | {"PYTHONPATH": str(REPO), "NO_MKDOCS_2_WARNING": "1"}
    environment["https_proxy"] = "http://127.0.0.1:9"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    return subprocess.run(command, cwd=repo, env=environment, capture_output=True, text=True, check=False)


def test_the_site_builds_offline_and_a_dead_link_fails(tmp_path: Path) -> None:
    for name in ("docs", "conf"):
        shutil.copytree(REPO / name, tmp_path / name)
    for name in ("mkdocs.yml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(REPO / name, tmp_path)
    with (tmp_path / "docs" / "data.md").open("a", encoding="utf-8") as file:
        file.write("\n[nowhere](nowhere.md)\n")
    done = build(tmp_path)
    assert done.returncode != 0
    (warning,) = [line for line in done.stderr.splitlines() if line.startswith(("WARNING", "ERROR"))]  # and no other
    assert "nowhere.md" in warning
    assert "Every setting of every command" in (tmp_path / "site" / "reference.html").read_text("utf-8")
    index = (tmp_path / "site" / "index.html").read_text("utf-8")
    loaded = re.findall(r'<(?:script|link)[^>]* (?:src|href)="(\S+)"', index)
    assert loaded
    assert not [address for address in loaded if address.startswith("http")]


def test_the_readme_is_a_front_page() -> None:
    text = (REPO / "README.md").read_text("utf-8")
    assert len(text) <= 8000
    for path in re.findall(r"\]\(([^):#]+)[)#]", text):
        assert (REPO / path).is_file(), path


def list_keys(node: Any, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from list_keys(value, f"{prefix}{key}.")


@pytest.mark.parametrize("command", SETTINGS)
def test_the_reference_has_every_setting(configure: Callable[..., Any], reference: str, command: str) -> None:
    documented = set(re.findall(r"^\| `([^`]+)` \|", reference, re.MULTILINE))
    for overrides in SETTINGS[command]:
        config = OmegaConf.to_container(OmegaConf.structured(configure(*overrides, command=command)), enum_to_str=True)
        assert isinstance(config, dict)
        config.pop("overrides", None)
        for key in list_keys(config):
            named = re.sub(r"^(stages|criteria|judge\.heads)\.\w+", r"\1.NAME", key)
            named = re.sub(r"^stage_defaults\.\w+", "stage_defaults.PLACE", named)
            if named.endswith((".NAME", ".PLACE")) or re.match(r"train\.|trainer\.|judge\.prices\.models\.", named):
                continue
            # what is nested at several places is documented at one of them
            shared = re.sub(r"^(?:stages|criteria)\.NAME\.dataset", "dataset", named)
            shared = re.sub(r"^judge\.(?:encoder|heads\.NAME\.model)\b", "model", shared)
            shared = shared.replace("criteria.NAME.criterion", "stages.NAME.criterion")
            assert {named, shared} & documented, f"{command}: {key}"
