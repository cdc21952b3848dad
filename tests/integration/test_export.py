"""Policies taken out of the store: weights, card, and what is left alone."""

import io
import json
import re
import shlex
from functools import partial
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from tiny import compose_tiny, make_config, train_run
from transformers import AutoModelForCausalLM, AutoTokenizer

from sacpo_exp.chat import chat
from sacpo_exp.errors import ConfigError, MissingArtifactError
from sacpo_exp.eval import evaluate
from sacpo_exp.evaluation.engine import encode
from sacpo_exp.evaluation.records import RESPONSES, read_by_prompt
from sacpo_exp.evaluation.responding import evaluation_prompts, respond
from sacpo_exp.export import export
from sacpo_exp.method.policy import read_policy
from sacpo_exp.pipeline import open_run, train_policies
from sacpo_exp.plan import policy_of_spec
from sacpo_exp.studies.chatting import open_speaker
from sacpo_exp.training.models import Location, load_tokenizer

SECRET = "hf_secretOfNobody"


configure_export, configure_chat = (partial(compose_tiny, command) for command in ("export", "chat"))


def test_an_exported_folder_is_the_policy(outputs: Path, tmp_path: Path) -> None:
    run = train_run(outputs)
    folder = tmp_path / "out"
    export(configure_export(outputs, f"folder={folder}"))
    stored = run.store.path(run.plan.policies["second"])
    model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not loading["missing_keys"]
    weights, loaded = load_file(stored / "model.safetensors"), model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())
    own = load_tokenizer(Location(str(stored)), run.config.model.chat_template)
    assert encode(AutoTokenizer.from_pretrained(folder), "Why?") == encode(own, "Why?")
    names = {path.name for path in folder.iterdir()}
    assert {"README.md", "recipe.json", "config.json", "generation_config.json", "tokenizer.json"} <= names
    assert not names & {"manifest.json", "metrics.jsonl", "adapter"}
    assert not list(tmp_path.glob(".*"))  # nothing half written beside it


def test_the_card_says_what_was_merged_from_what_and_what_it_scored(outputs: Path) -> None:
    run = train_run(outputs, "merge_ratio=0.5")
    evaluate(make_config(outputs, "merge_ratio=0.5"))
    export(configure_export(outputs, "merge_ratio=0.5", "policies=[merged]"))
    merged = run.plan.policies["merged"]
    card = ModelCard.load(outputs / "export" / merged.id / "README.md")
    assert card.data.library_name == "transformers"
    assert {"sacpo", "p-sacpo", "sft", "dpo"} <= set(card.data.tags or [])
    assert card.data.base_model is None
    text = card.text
    for spec in (run.plan.model, *(stage.artifact for stage in run.plan.stages), merged):
        assert spec.id in text
    scores = text.split("## Scores")[1].split("## ")[0]
    assert re.search(r"\| scorer.* \| helpfulness\\_win\\_rate \| 0\.\d\d \[0\.\d\d, [01]\.\d\d\] \|", scores)
    assert f"torch {torch.__version__}" in text
    recipe = (outputs / "export" / merged.id / "recipe.json").read_text()
    assert read_policy(json.loads(recipe)["lineage"]) == policy_of_spec(merged)
    assert str(run.plan.stages[0].data.recipe["rows"]) in recipe
    assert "Its weights are 0.5 · (DPO(H) β=0.1) + 0.5 · (DPO(H)→DPO(S) β=0.1)." in text
    command = next(line for line in text.splitlines() if line.startswith("sacpo train"))
    assert not {"policies=[merged]", f"paths.outputs={outputs}"} & set(shlex.split(command))


def test_a_card_of_local_data_names_no_folder(outputs: Path, rows_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    local = ["order=helpful_only", "base=none", "dataset=local", f"dataset.path={rows_file}"]
    run = train_run(outputs, *local)
    export(configure_export(outputs, *local))
    folder = outputs / "export" / run.plan.policies["first"].id
    card = ModelCard.load(folder / "README.md")
    assert f"dataset.path={rows_file.name}" in card.text
    assert "on local" in card.text
    for path in folder.iterdir():
        said = path.read_bytes()
        for private in (str(rows_file.parent), str(outputs), str(Path.home()), SECRET):
            assert private.encode() not in said, path.name


def test_only_an_export_of_the_same_policy_is_replaced(outputs: Path, tmp_path: Path) -> None:
    train_run(outputs)
    folder = tmp_path / "out"
    export(configure_export(outputs, f"folder={folder}"))
    written = (folder / "README.md").stat().st_mtime_ns
    export(configure_export(outputs, f"folder={folder}"))
    assert (folder / "README.md").stat().st_mtime_ns > written
    with pytest.raises(ConfigError, match="out holds something other than an unchanged"):
        export(configure_export(outputs, f"folder={folder}", "policies=[first]"))
    (folder / "README.md").write_text("mine")
    with pytest.raises(ConfigError, match="out holds something other than an unchanged"):
        export(configure_export(outputs, f"folder={folder}"))
    (folder / "recipe.json").unlink()
    with pytest.raises(ConfigError, match="out holds something other than an unchanged"):
        export(configure_export(outputs, f"folder={folder}"))
    assert (folder / "README.md").read_text() == "mine"


def test_nothing_is_trained_and_what_is_missing_is_said_as_by_eval(outputs: Path) -> None:
    said = []
    for command, config in ((evaluate, make_config), (export, configure_export), (chat, configure_chat)):
        with pytest.raises(MissingArtifactError, match=r"Run `sacpo train`") as caught:
            command(config(outputs / "empty", "policies=all"))
        said.append(str(caught.value))
    assert said == [said[0]] * 3


TITLES = ["SFT (baseline)", "DPO(H) β=0.1", "DPO(H)→DPO(S) β=0.1", "P-SACPO DPO(H)→DPO(S) q=0.5"]


@pytest.fixture
def four(outputs: Path) -> list[str]:
    """Overrides that name four policies, which are trained."""
    overrides = ["merge_ratio=0.5", "policies=all"]
    train_run(outputs, *overrides)
    return overrides


def test_a_policy_answers_as_it_does_when_it_is_judged(outputs: Path) -> None:
    run = open_run(make_config(outputs))
    train_policies(run)
    policy = run.plan.policies["second"]
    said = read_by_prompt(respond(run, policy) / RESPONSES)
    speak = open_speaker(run, policy)
    for prompt in evaluation_prompts(run)[:4]:
        expected = said[prompt["prompt_id"]]
        cut = " … (cut at 8 tokens)" if expected["finish_reason"] == "length" else ""
        assert speak(prompt["prompt"]) == (expected["response"] or "(nothing)") + cut


def test_one_prompt_is_answered_by_all(outputs: Path, four: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    config = compose_tiny("chat", outputs, *four)
    config.prompt = "How do I bake bread?"
    chat(config)
    printed = capsys.readouterr()
    assert re.findall("^--- (.*)", printed.out, re.MULTILINE) == TITLES
    assert "response/s" not in printed.err  # no bar per answer


def test_lines_are_answered_until_an_empty_one(
    outputs: Path, four: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello?\nWhy?\n\nNever asked.\n"))
    chat(compose_tiny("chat", outputs, *four, "policies=[baseline]"))
    assert capsys.readouterr().out.count(TITLES[0]) == 2
