"""Models and datasets by name, from a hub on loopback: identified by commit, downloaded once, then used without it."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import Hub, serve_hub
from processes import finish, start_command
from tiny import TINY, make_run

from sacpo_exp.data.demo import generate_rows
from sacpo_exp.pipeline import locate

MINE = ["base=none", "model=hub", "model.path=owner/model", "optimization=tiny", "dataset=hub"]
MINE.append("dataset.path=owner/rows")
PROMPTS = ["prompts=hub", "prompts.path=owner/prompts", "judge=none"]


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def hub(outputs: Path) -> Iterator[Hub]:
    """A hub with a tiny model, rows of the demo in two splits, and prompts."""
    run = make_run(outputs)
    hub = Hub()
    hub.add("models/owner/model", Path(locate(run, run.plan.model).path))
    splits = {
        f"{split}.jsonl": lines(generate_rows(part, 0)[:40])
        for split, part in (("train", "train"), ("test", "heldout"))
    }
    hub.add("datasets/owner/rows", {".gitattributes": b"*", **splits})
    hub.add("datasets/owner/prompts", {".gitattributes": b"*", "test.jsonl": lines([{"prompt": "How are you?"}])})
    with serve_hub(hub):
        yield hub


@pytest.fixture
def variables(hub: Hub, tmp_path: Path) -> dict[str, str]:
    """The environment of a machine whose hub this is, with an empty cache."""
    return {"HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "cache"), "HF_ENDPOINT": hub.address}


def ids(text: str) -> list[str]:
    return re.findall(r"\S+-[0-9a-f]{10}$", text, re.MULTILINE)


def test_ids_have_the_commits_of_model_and_dataset(
    cli: Callable[..., Any], hub: Hub, variables: dict[str, str]
) -> None:
    overrides = [*TINY[1:], *MINE, *PROMPTS, "dry_run=true"]

    def plan() -> list[str]:
        result = cli("train", *overrides, variables=variables, light=True, allowed=["datasets", "pandas"])
        assert result.code == 0, result.stderr
        assert "(0 M parameters" in result.stdout  # from the file, which is not downloaded
        return ids(result.stdout)

    first = plan()
    hub.repositories["datasets/owner/rows"]["train.jsonl"] += b"\n"
    rows = plan()
    hub.repositories["models/owner/model"]["README.md"] = b"changed"
    model = plan()
    assert len(first) == len(rows) == len(model) == 5
    assert first[0] == rows[0] != model[0]  # the model
    assert not set(first[1:]) & set(rows)
    assert not set(rows) & set(model)
    assert hub.count("model.safetensors") == 0


@pytest.mark.slow
def test_four_processes_download_once_and_then_no_network_is_needed(
    cli: Callable[..., Any], hub: Hub, variables: dict[str, str], tmp_path: Path
) -> None:
    overrides = [*TINY[1:], *MINE, "dataset.train_split=train", "dataset.heldout_split=test", *PROMPTS]
    overrides.append("order=helpful_only")
    command = ["prepare", "weights=true", *overrides]
    for process in [start_command(tmp_path, *command, f"paths.outputs={n}", **variables) for n in range(4)]:
        finish(process)
    assert {file: hub.count(file) for file in ("model.safetensors", "train.jsonl", "test.jsonl")} == {
        "model.safetensors": 1,
        "train.jsonl": 1,
        "test.jsonl": 2,  # that of the prompts too
    }
    online = cli("train", *overrides, "paths.outputs=0", "dry_run=true", variables=variables)
    hub.requests.clear()
    for without in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:1"}):
        offline = cli("eval", *overrides, "paths.outputs=fresh", "policies=[baseline]", variables=variables | without)
        assert offline.code == 0, offline.stderr
        planned = cli("train", *overrides, "paths.outputs=0", "dry_run=true", variables=variables | without)
        assert ids(planned.stdout) == ids(online.stdout) != []
    assert hub.requests == []


GATED = "is gated. Try: accept its conditions at https://huggingface.co/"


MISTAKES = {
    "no model": (["model.path=owner/none"], "the hub has no model owner/none, or it is private."),
    "no revision": (["model.revision=v9"], "the model owner/model has no revision `v9` on the hub. Try: main"),
    "gated model": (["model.path=owner/gated"], f"the model owner/gated {GATED}owner/gated, then `hf auth login`"),
    "no template": (["model.path=owner/plain"], "owner/plain has no chat template. Try: `model.chat_template=...`"),
    "no dataset": (["dataset.path=owner/none"], "the hub has no dataset owner/none, or it is private."),
    "gated dataset": (["dataset.path=owner/gated"], f"the dataset owner/gated {GATED}datasets/owner/gated, then"),
    "no split": (["dataset.train_split=tran"], 'owner/rows can\'t be read: Unknown split "tran". Should be one of'),
    "no subset": (
        ["dataset.subset=x"],
        "owner/rows can't be read: BuilderConfig 'x' not found. Available: ['default']",
    ),
}
#: Told by the same code as another one.
ALIKE = ("no revision", "no template", "gated dataset", "no subset")
ALL = [pytest.param(*each, id=name, marks=[pytest.mark.slow] * (name in ALIKE)) for name, each in MISTAKES.items()]


@pytest.mark.parametrize(("overrides", "sentence"), ALL)
def test_what_the_hub_does_not_have_or_give_is_one_sentence(
    cli: Callable[..., Any], hub: Hub, variables: dict[str, str], overrides: list[str], sentence: str
) -> None:
    files = hub.repositories["models/owner/model"]
    plain = {name: json.loads(data) for name, data in files.items() if name == "tokenizer_config.json"}
    plain["tokenizer_config.json"].pop("chat_template", None)
    bare = {name: data for name, data in files.items() if "template" not in name}
    hub.add("models/owner/plain", bare | {name: json.dumps(content).encode() for name, content in plain.items()})
    for kind in ("models", "datasets"):
        hub.add(f"{kind}/owner/gated", {".gitattributes": b"*", "config.json": b"{}"})
        hub.gated.add(f"{kind}/owner/gated")
    allowed = ["datasets", "pandas"]
    result = cli("train", *TINY[1:], *MINE, *PROMPTS, *overrides, light=True, allowed=allowed, variables=variables)
    assert result.code == 2
    assert "HTTP" not in result.stdout
    assert result.stderr.count("error:") == 1
    assert sentence in result.stderr
