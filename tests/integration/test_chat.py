"""One prompt to several policies: the same answers as `eval` gives."""

import io
import re
from pathlib import Path

import pytest
from tiny import compose_tiny, make_config, train_run

from sacpo_exp.chat import chat
from sacpo_exp.evaluation.records import RESPONSES, read_by_prompt
from sacpo_exp.evaluation.responding import evaluation_prompts, respond
from sacpo_exp.pipeline import open_run, train_policies
from sacpo_exp.studies.chatting import open_speaker

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
