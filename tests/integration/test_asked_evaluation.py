"""An evaluation by a judge that is asked, from files to the report, with failures and a signal on the way."""

import csv
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from asking import Server, plain_judge, served, write_responses
from judge_server import SEPARATOR, score
from processes import fork_command, wait_until
from tiny import make_config, stored, write_report

from sacpo_exp.config.schema import EvalConfig
from sacpo_exp.errors import ConfigError, JudgeError
from sacpo_exp.eval import evaluate
from sacpo_exp.evaluation.judges.questions import fence
from sacpo_exp.evaluation.records import VERDICTS, read_records

KINDS = ["benign", "risky"] * 6
NAMES = ("one", "two", "three")


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Responses to twelve prompts; `three` says on every third prompt what `one` says."""
    said = {name: [f"{name} says {place}." for place in range(12)] for name in NAMES}
    said["three"][::3] = said["one"][::3]
    return write_responses(tmp_path, [f"Prompt {place}?" for place in range(12)], said, KINDS)


def configure_asked(folder: Path, server: Server, files: list[str], *overrides: str) -> EvalConfig:
    judge = [] if "judge=openai" in overrides else ["judge=local"]
    chosen = [f"responses=[{','.join(files)}]", "baseline=one", *judge, *plain_judge(folder, server.url), *overrides]
    return make_config(folder / "outputs", *chosen)


def read_judgments(folder: Path, policy: str) -> list[dict[str, Any]]:
    """Records of the newest judgments of a policy against the baseline."""
    found = [
        (manifest.created, place)
        for place, manifest in stored(folder / "outputs", "judgments")
        if manifest.labels["policy"] == policy and manifest.labels["opponent_id"] == manifest.labels["baseline_id"]
    ]
    return read_records(max(found)[1] / VERDICTS)


def states(records: list[dict[str, Any]]) -> Counter[str]:
    entries = [record[name] for record in records for name in ("helpfulness", "safety")]
    return Counter(entry["state"] for entry in entries if entry)


def test_another_provider_is_an_address_and_gets_its_own_key_and_no_parameter_of_openai_s(
    tmp_path: Path, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys that the page about judges gives for servers of other makers."""
    monkeypatch.setenv("PROVIDER_KEY", "of-the-provider")
    monkeypatch.setenv("OPENAI_API_KEY", "of-openai")
    given = ["judge=openai", "judge.model=other", "judge.api_key_env=PROVIDER_KEY", "judge.token_limit=max_tokens"]
    given += ["judge.reasoning_effort=null", "judge.price.input=1", "judge.price.output=2", "judge.budget_usd=5"]
    with served(tmp_path / "server") as server:
        evaluate(configure_asked(tmp_path, server, files[:2], *given))
        calls = server.calls()
    assert {call["headers"]["authorization"] for call in calls} == {"Bearer of-the-provider"}
    assert {tuple(sorted(call["body"])) for call in calls} == {("max_tokens", "messages", "model", "temperature")}
    assert set(states(read_judgments(tmp_path, "two"))) == {"ok"}


def test_prompts_are_asked_about_their_criterion_unless_responses_are_equal(tmp_path: Path, files: list[str]) -> None:
    with served(tmp_path / "server") as server:
        evaluate(configure_asked(tmp_path, server, files))
        assert len(server.calls()) == 2 * (12 + 8)  # both orders; four prompts on which `three` says the same
        for record in read_judgments(tmp_path, "three"):
            counted, other = ("helpfulness", "safety") if record["kind"] == "benign" else ("safety", "helpfulness")
            assert record[other] is None
            assert record[counted].get("is_same", False) == (record["response"] == record["opponent_response"])
            own, other = (score(fence(record[side])) for side in ("response", "opponent_response"))
            assert record[counted]["verdict"] == (0.5 if own == other else float(own > other))


def test_a_further_policy_asks_only_what_is_new(tmp_path: Path, files: list[str]) -> None:
    with served(tmp_path / "server") as server:
        evaluate(configure_asked(tmp_path, server, files[:2]))
        assert len(server.calls()) == 24
        evaluate(configure_asked(tmp_path, server, files, "matches=all_pairs"))
        assert set(server.counts().values()) == {1}
        # one–three is asked on 8 prompts; two–three on 12, of which 4 are as one–two, asked before
        assert len(server.calls()) == 24 + 16 + 16


def test_failures_are_no_ties(tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ("judge.max_attempts=1", "judge.max_failures=1000", "judge.concurrency=1")
    with served(tmp_path / "server", seed=5, share=0.4, kinds=["500"]) as server:
        evaluate(configure_asked(tmp_path, server, files, *overrides))
        first = states(read_judgments(tmp_path, "two"))
        assert first["failed"] > 0
        write_report(tmp_path / "outputs")
        printed = capsys.readouterr().out
        assert "withheld" in printed
        rows = read_table(tmp_path)
        assert int(rows["two"]["failed"]) == first["failed"]
        assert rows["two"]["helpfulness_win_rate"] == ""
        for _ in range(12):
            evaluate(configure_asked(tmp_path, server, files, *overrides))
            if not states(read_judgments(tmp_path, "two"))["failed"]:
                break
        assert states(read_judgments(tmp_path, "two")) == {"ok": 12}


def test_an_evaluation_without_a_single_verdict_fails_and_keeps_the_answers(tmp_path: Path, files: list[str]) -> None:
    overrides = ("judge.max_attempts=1", "judge.max_failures=1000")
    with served(tmp_path / "server", share=1.0, kinds=["500"]) as server:
        config = configure_asked(tmp_path, server, files, *overrides)
        with pytest.raises(JudgeError, match=r"^not one of 20 verdicts can be used \(20 failed\)\."):
            evaluate(config)
    assert states(read_judgments(tmp_path, "two")) == {"failed": 12}


def read_table(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "outputs" / "report" / "table.csv").open(encoding="utf-8") as file:
        return {row["family"]: row for row in csv.DictReader(file)}


def test_the_report_has_all(tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with served(tmp_path / "server") as server:
        evaluate(configure_asked(tmp_path, server, files, "matches=all_pairs", "judge.repeats=2"))
    write_report(tmp_path / "outputs")
    assert "Ratings for helpfulness over all pairs, Bradley–Terry" in capsys.readouterr().out
    folder = tmp_path / "outputs" / "report"
    with (folder / "judge.csv").open(encoding="utf-8") as file:
        conduct = next(row for row in csv.DictReader(file) if row["matches_of"] == "all policies")
    assert float(conduct["flip_rate"]) == 0  # this judge looks at the texts only
    assert float(conduct["first_rate"]) == 0.5
    assert float(conduct["repeat_deviation"]) == 0
    with (folder / "ratings.csv").open(encoding="utf-8") as file:
        ratings = {(row["criterion"], row["policy"]): float(row["rating"]) for row in csv.DictReader(file)}
    assert ratings["helpfulness", "one (baseline)"] == ratings["safety", "one (baseline)"] == 1000
    write_report(tmp_path / "outputs", "rating=elo_online")
    assert "Ratings for helpfulness over all pairs, online Elo" in capsys.readouterr().out


def test_a_stopped_judge_leaves_no_verdicts_and_goes_on(tmp_path: Path, files: list[str]) -> None:
    with served(tmp_path / "server") as server:
        config = configure_asked(tmp_path, server, files, "judge.max_calls=25", "judge.concurrency=1")
        with pytest.raises(JudgeError, match=r"^stopped at `judge\.max_calls` = 25: 25 calls made, 15 of 40"):
            evaluate(config)
        assert not (tmp_path / "outputs" / "store" / "judgments").exists()
        evaluate(config)
        assert len(server.calls()) == 40


def test_the_paper_s_own_questions_are_asked_without_fences_and_the_report_says_whose_they_are(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    source, user = (
        tmp_path / "constant.py",
        SEPARATOR.join(["Any is between 0-10.", "{question}", "{answer1}", "{answer2}"]),
    )
    texts = {f"{name}_{part}_PROMPT": user for name in ("HELPFULNESS", "HARMLESSNESS") for part in ("SYSTEM", "USER")}
    source.write_text("".join(f"{name}: str = {text!r}\n" for name, text in texts.items()))
    with served(tmp_path / "server") as server:
        evaluate(configure_asked(tmp_path, server, files[:2], f"judge.template={source}"))
        first = min(call["content"] for call in server.calls())
    assert first == SEPARATOR.join(["Any is between 0-10.", "Prompt 0?", "one says 0.", "two says 0."])
    write_report(tmp_path / "outputs")
    printed = " ".join(capsys.readouterr().out.split())
    assert "asked the paper's own questions; the paper's judge, gpt-4-0125-preview, was shut down" in printed


def test_a_missing_key_or_template_is_told(tmp_path: Path, files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    named = (f"responses=[{','.join(files)}]", "baseline=one", "judge=openai")
    with pytest.raises(ConfigError, match=r"OPENAI_API_KEY is neither in the environment nor in a \.env file here"):
        evaluate(make_config(tmp_path / "outputs", *named))
    with pytest.raises(ConfigError, match=r"`judge\.template` must be .* but 'nowhere' has no text about helpfulness"):
        evaluate(make_config(tmp_path / "outputs", *named, "judge.template=nowhere"))
    assert not (tmp_path / "outputs").exists()


def test_a_signal_ends_a_command_with_a_sentence(tmp_path: Path) -> None:
    with served(tmp_path / "server", latency=60) as server:
        paths = write_responses(tmp_path, ["Why?"], {"one": ["Because."], "two": ["It is so."]}, ["benign"])
        overrides = ["judge=local", f"judge.base_url={server.url}", "judge.timeout=99", "baseline=one"]
        overrides.append(f"responses=[{','.join(paths)}]")
        process = fork_command(tmp_path, "eval", *overrides)
        wait_until((tmp_path / "outputs" / "ledger.sqlite").exists)  # to ask the judge, who does not answer
        os.kill(process.pid or 0, signal.SIGHUP)
        process.join(30)
    output = (tmp_path / "printed").read_text("utf-8")
    assert process.exitcode == 128 + signal.SIGHUP, output
    assert "interrupted by SIGHUP: what was finished is stored" in output
    assert "Traceback" not in output
    (state,) = tmp_path.glob("outputs/runs/*/*/state.yaml")
    assert yaml.safe_load(state.read_text("utf-8"))["state"] == "stopped"
