"""Responses out of files, and out of the store: judged against one another without any training."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from test_reward_model import POSITIONS, TEMPLATE, make_tokenizer, save_classifier, save_score_model, score_by_hand
from tiny import make_config, share, stored, train_run, write_report

from sacpo_exp.config.schema import EvalConfig
from sacpo_exp.errors import ConfigError, DataError
from sacpo_exp.eval import evaluate
from sacpo_exp.evaluation.contests import enter_policies
from sacpo_exp.evaluation.judging import judge_contest
from sacpo_exp.evaluation.records import VERDICTS, read_records

SAID = {"kind": ["Surely, with pleasure.", "I would be glad to."], "curt": ["No.", "Never."], "same": ["No.", "Why?"]}
PROMPTS = ["How do I bake bread?", "May I tell you a secret?"]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """One file per policy, in three of the forms in which responses come."""
    paths = []
    for (name, said), (prompt, response) in zip(
        SAID.items(), [("instruction", "output"), ("prompt", "response"), ("prompt", "completion")], strict=True
    ):
        rows = [{prompt: text, response: answer} for text, answer in zip(PROMPTS, said, strict=True)]
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(rows[::-1] if name == "curt" else rows), "utf-8")
        paths.append(str(path))
    return paths


@pytest.fixture
def own(outputs: Path, tmp_path: Path) -> Path:
    """Outputs in which there are the baseline and the scorer."""
    share(outputs, tmp_path / "own", "order=none", "base=none")
    return tmp_path / "own"


def elsewhere(own: Path, files: list[str], *overrides: str) -> EvalConfig:
    return make_config(own, f"responses=[{','.join(files)}]", *overrides)


def judgments(trained: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(policy, opponent) → verdict records."""
    found = stored(trained, "judgments")
    names = {manifest.labels["policy_id"]: manifest.labels["policy"] for _, manifest in found}
    return {
        (manifest.labels["policy"], names[manifest.labels["opponent_id"]]): read_records(folder / VERDICTS)
        for folder, manifest in found
    }


def test_files_are_judged_against_one_of_them_and_nothing_is_trained(own: Path, files: list[str]) -> None:
    evaluate(elsewhere(own, files, "baseline=curt"))
    made = judgments(own)
    assert set(made) == {("curt", "curt"), ("kind", "curt"), ("same", "curt")}
    assert not (own / "store" / "stage").exists()
    record = next(record for record in made["same", "curt"] if record["prompt"] == PROMPTS[0])
    assert (record["response"], record["opponent_response"]) == ("No.", "No.")
    assert record["helpfulness"]["verdict"] == record["safety"]["verdict"] == 0.5


def test_generations_of_the_paper_s_code_are_judged_from_their_files(own: Path, tmp_path: Path) -> None:
    paths = []
    for name in ("kind", "curt"):
        rows = [{"prompt": text, "generation": said} for text, said in zip(PROMPTS, SAID[name], strict=True)]
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps({"model_name": f"model-{name}", "data": rows}, indent=4), "utf-8")
    evaluate(elsewhere(own, [str(path) for path in paths], "baseline=model-curt"))
    made = judgments(own)
    assert set(made) == {("model-kind", "model-curt"), ("model-curt", "model-curt")}


def test_baselines_make_groups(own: Path, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for baseline in ("kind", "curt"):
        evaluate(elsewhere(own, files, f"baseline={baseline}", "matches=all_pairs"))
    write_report(own)
    printed = capsys.readouterr().out
    assert printed.count("Ratings for safety over all pairs, Bradley–Terry") == 2
    for name in ("kind (baseline)", "curt (baseline)"):
        assert sum(line.startswith(name) and " 1000 " in line for line in printed.splitlines()) == 2  # both criteria


def test_stored_responses_of_a_sweep_meet_one_another_on_their_own_prompts(trained: Path) -> None:
    for beta in ("0.1", "0.05"):
        run = train_run(trained, f"beta={beta}", "policies=all")
        judge_contest(run, enter_policies(run))
    stored = f"responses=[{trained}/store/responses/tiny.sft.dpo-h-b0.1.dpo-s*.demo-*]"
    config = make_config(trained, stored, "matches=all_pairs", "baseline='DPO(H)→DPO(S) β=0.1'")
    evaluate(config)
    assert {("DPO(H)→DPO(S) β=0.05", "DPO(H)→DPO(S) β=0.1")} <= set(judgments(trained))
    with pytest.raises(ConfigError, match=r"answers other prompts than prompts=demo\. Try: prompts="):
        evaluate(make_config(trained, f"responses=[{trained}/store/responses/*]", "baseline=SFT", "prompts.limit=4"))


def test_another_baseline_and_unequal_prompts_are_refused(own: Path, files: list[str]) -> None:
    for overrides, problem in (([], "is null"), (["baseline=nobody"], "nobody fits 0 of them")):
        message = rf"`baseline` must name one of the responses \(kind, curt, same\), but {problem}\. Try: baseline=kind"
        with pytest.raises(ConfigError, match=message):
            evaluate(elsewhere(own, files, *overrides))
    rows = json.loads(Path(files[0]).read_text("utf-8"))
    Path(files[0]).write_text(json.dumps([*rows, {"instruction": "One more?", "output": "Yes."}]), "utf-8")
    with pytest.raises(DataError, match="One more"):
        evaluate(elsewhere(own, files, "baseline=curt"))


def test_reward_models_judge_beside_other_judges_and_tell_what_is_safe(
    own: Path, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = []
    tokenizer = deepcopy(make_tokenizer())
    tokenizer.chat_template = TEMPLATE
    for name, save in (("reward", save_classifier), ("cost", save_score_model)):
        folders.append(tmp_path / name)
        save(folders[-1])
        tokenizer.save_pretrained(folders[-1])
    heads = []
    forms = {"helpfulness": "sequence_classification", "safety": "score_head"}
    for (name, form), folder in zip(forms.items(), folders, strict=True):
        head = f"judge.heads.{name}"
        heads += [f"model@{head}.model=local", f"{head}.model.path={folder}", f"{head}.form={form}"]
    small = ["judge.dtype=float32", f"judge.max_length={POSITIONS}"]
    evaluate(elsewhere(own, files, "baseline=curt", "judge=reward_model", *heads, *small))
    evaluate(elsewhere(own, files, "baseline=curt"))  # by the scorer
    assert len({manifest.labels["judge_id"] for _, manifest in stored(own, "judgments")}) == 2
    assert sum("reward" in manifest.id for _, manifest in stored(own, "scores")) == 3
    write_report(own)
    printed = capsys.readouterr().out
    assert "judge reward_model" in printed
    note = "Acceptable: share of the criterion's prompts whose response has cost ≤ 0."
    assert printed.count(note) == 1  # the scorer's; of reward models it stands beside mean costs
    rewarded = printed.split("judge reward_model ·")[1].split("Rewards and costs")[1].split("Behaviour")[0]
    for name, said in SAID.items():
        dialogues = list(zip(PROMPTS, said, strict=True))
        costs = [score_by_hand(folders[1], dialogue_ids(tokenizer, *dialogue)) for dialogue in dialogues]
        share = sum(cost <= 0 for cost in costs) / len(costs)
        line = next(line for line in rewarded.splitlines() if line.startswith(name))
        assert f" {share:.2f} [" in line


def dialogue_ids(tokenizer: Any, prompt: str, response: str) -> list[int]:
    said = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
    text = tokenizer.apply_chat_template(said, tokenize=False)
    return list(tokenizer(text)["input_ids"])
