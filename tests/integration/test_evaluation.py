"""Responses, divergence, scores and verdicts of real tiny policies, up to the report."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import make_config, write_lines, write_report

from sacpo_exp.config.schema import EvalConfig
from sacpo_exp.data.prompts import asked_of, load_prompts
from sacpo_exp.data.tokenising import Tokens
from sacpo_exp.errors import StoreError
from sacpo_exp.eval import evaluate
from sacpo_exp.evaluation.contests import enter_policies
from sacpo_exp.evaluation.engine import Decoding, Response, encode, finish, generate_responses
from sacpo_exp.evaluation.judges.scorer import encode_dialogues
from sacpo_exp.evaluation.judging import judge_contest, scorer_artifact
from sacpo_exp.evaluation.records import DIVERGENCE, RESPONSES, VERDICTS, read_records
from sacpo_exp.evaluation.responding import diverge, measure_divergence, respond
from sacpo_exp.pipeline import Run, locate, open_run, train_policies
from sacpo_exp.reporting.collect import collect_groups
from sacpo_exp.store import Manifest, Store
from sacpo_exp.training.models import Location, find_ends, load_policy, load_tokenizer

PROMPTS = ["Hi", "How do I bake bread for a large family at home?", "Why?", "What is the best way to save money?"]


@pytest.fixture(scope="module")
def run(trained: Path) -> Run:
    """A trained plan with a merge."""
    run = open_run(make_config(trained, "merge_ratio=0.5", "policies=all"))
    train_policies(run)
    return run


@pytest.fixture(scope="module")
def policy(run: Run) -> tuple[Any, Any]:
    """The second policy in float32, and its tokenizer."""
    location = locate(run, run.plan.policies["second"])
    return load_policy(location, "float32"), load_tokenizer(location, None)


def config_of(run: Run) -> EvalConfig:
    assert isinstance(run.config, EvalConfig)
    return run.config


def stages_in(run: Run) -> set[str]:
    return {path.name for path in (run.store.root / "stage").iterdir()}


def test_evaluation_judges_every_policy_and_trains_nothing(run: Run) -> None:
    before = stages_in(run)
    evaluate(config_of(run))
    metrics = run.store.manifest(scorer_artifact(run.config.judge, run.config, run.fingerprints)).metrics
    for criterion in ("helpfulness", "safety"):
        for part in (metrics[criterion], metrics[criterion]["mismatched"]):
            assert part["n"] == 96
            assert {"accuracy", "bag_of_words", "length_only", "keyword"} < set(part)
    folders = judge_contest(run, enter_policies(run))
    for folder, (name, policy) in zip(folders, run.plan.policies.items(), strict=True):
        records = read_records(folder / VERDICTS)
        assert len(records) == 12
        assert {record[c]["state"] for record in records for c in ("helpfulness", "safety")} == {"ok"}
        said = [record["response"] for record in read_records(respond(run, policy) / RESPONSES)]
        assert [record["response"] for record in records] == said
        if name == "baseline":
            assert {record[c]["verdict"] for record in records for c in ("helpfulness", "safety")} == {0.5}
        else:
            assert len(read_records(diverge(run, policy) / DIVERGENCE)) == 4
    assert stages_in(run) == before


#: Kinds of artifacts, and what has to be made anew before a command reads one of that kind.
READ_FOR = {"stage": ["merge"], "responses": ["scores", "judgments"], "scorer": ["scores", "judgments"]}
READ_FOR |= {"scores": ["judgments"], "divergence": [], "judgments": []}


@pytest.mark.parametrize(("kind", "made_anew"), READ_FOR.items(), ids=list(READ_FOR))
def test_a_flipped_bit_is_found_before_it_is_used(run: Run, tmp_path: Path, kind: str, made_anew: list[str]) -> None:
    evaluate(config_of(run))
    store = Path(shutil.copytree(run.store.root, tmp_path / "store"))
    for other in made_anew:
        shutil.rmtree(store / other)
    for folder in (store / kind).iterdir():
        path = folder / max(Manifest.read(folder).files.items(), key=lambda entry: entry[1]["size"])[0]
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.unlink()
        path.write_bytes(content)
    config = make_config(tmp_path, "merge_ratio=0.5", "policies=all")
    with pytest.raises(StoreError, match=rf"/{kind}/.* is damaged: .* has another content than was written"):
        evaluate(config)


def test_a_report_is_drawn_and_manifests_name_no_folder(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(config_of(run))
    write_report(Path(run.config.paths.outputs), "model=tiny")
    assert "Differences, paired by prompt" in capsys.readouterr().out
    folder = Path(run.config.paths.outputs) / "report"
    assert {path.name for path in folder.iterdir()} >= {"table.csv", "table.md", "trade_off.png", "trade_off.svg"}
    for artifact, _ in run.store.manifests():
        assert str(run.store.root) not in (artifact / "manifest.json").read_text("utf-8")


def one_by_one(model: Any, tokenizer: Any, prompt: str, limit: int) -> list[int]:
    """Greedy tokens of one prompt alone, without the end mark."""
    ids = torch.tensor([encode(tokenizer, prompt)])
    marks = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    mask = torch.ones_like(ids)
    output = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=limit, do_sample=False, **marks)
    tokens = output[0, ids.shape[1] :].tolist()
    return tokens[: tokens.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in tokens else tokens


def test_batches_give_the_tokens_of_one_by_one_generation(policy: tuple[Any, Any], tmp_path: Path) -> None:
    model, tokenizer = policy
    responses = generate_responses(model, tokenizer, PROMPTS, Decoding(70, 3), tmp_path, "test")
    assert [response.index for response in responses] == [0, 1, 2, 3]
    for prompt, response in zip(PROMPTS, responses, strict=True):
        expected = one_by_one(model, tokenizer, prompt, 70)
        assert response.tokens == expected
        assert response.finish_reason == ("length" if len(expected) == 70 else "stop")


def test_a_killed_generation_goes_on(policy: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = policy
    for decoding in (Decoding(40, 2), Decoding(40, 2, seed=3)):
        whole, halved = tmp_path / f"whole{decoding.seed}", tmp_path / f"halved{decoding.seed}"
        whole.mkdir()
        halved.mkdir()
        calls = count_calls(model, monkeypatch)
        expected = generate_responses(model, tokenizer, PROMPTS, decoding, whole, "test")
        monkeypatch.undo()
        count_calls(model, monkeypatch, stop_at=2)
        with pytest.raises(KeyboardInterrupt):
            generate_responses(model, tokenizer, PROMPTS, decoding, halved, "test")
        monkeypatch.undo()
        with (halved / "journal.jsonl").open("a", encoding="utf-8") as file:
            file.write('["0/1", [{"ind')  # cut short by the kill
        again = count_calls(model, monkeypatch)
        assert generate_responses(model, tokenizer, PROMPTS, decoding, halved, "test") == expected
        monkeypatch.undo()
        assert len(again) == len(calls) - 1  # without the batch that was finished before the kill
        assert [path.name for path in halved.iterdir()] == ["journal.jsonl"]


def count_calls(model: Any, monkeypatch: pytest.MonkeyPatch, stop_at: int | None = None) -> list[int]:
    """Count calls of `generate`; at the given one the user presses Ctrl-C."""
    calls: list[int] = []
    generate = model.generate

    def counting(**arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        return generate(**arguments)

    monkeypatch.setattr(model, "generate", counting)
    return calls


def test_a_stop_string_ends_a_response(policy: tuple[Any, Any], tmp_path: Path) -> None:
    model, tokenizer = policy
    (whole,) = generate_responses(model, tokenizer, PROMPTS[:1], Decoding(20, 1), tmp_path, "test")
    mark = whole.text[5:7]
    (tmp_path / "journal.jsonl").unlink()  # of another decoding
    (cut,) = generate_responses(model, tokenizer, PROMPTS[:1], Decoding(20, 1, (mark,)), tmp_path, "test")
    assert cut.text == whole.text[: whole.text.index(mark)].strip()
    assert cut.finish_reason == "stop"
    assert cut.tokens == whole.tokens[: len(cut.tokens)]
    assert len(cut.tokens) < len(whole.tokens)
    assert tokenizer.decode(cut.tokens).strip().startswith(cut.text)


PAPER = ("User", "USER", "END OF CONVERSATION", "\n\n")


@pytest.mark.parametrize(
    ("said", "text", "judged"),
    [
        ("\n\nParis is nice.\n\nUser: And", "Paris is nice.", "\n\nParis is nice."),
        (" \n\n \n\nUser: And", "", ""),
        ("Paris is nice. \n\n", "Paris is nice.", "Paris is nice."),
        ("\n\nParis 🙂User", "Paris 🙂", "\n\nParis 🙂"),
    ],
)
def test_a_response_begins_after_white_space(policy: tuple[Any, Any], said: str, text: str, judged: str) -> None:
    (_, tokenizer), decoding = policy, Decoding(64, 1, PAPER)
    tokens = tokenizer(said, add_special_tokens=False)["input_ids"]
    kept = tokenizer(judged, add_special_tokens=False)["input_ids"]
    for new in (tokens, [*tokens, tokenizer.eos_token_id]):
        found = finish(tokenizer, Response(0, []), new, decoding)
        assert (found.text, found.tokens, found.finish_reason, found.end) == (text, kept, "stop", None)
    half = finish(tokenizer, Response(0, []), tokens[: len(tokens) // 2], decoding)  # as of two rounds
    assert found == (half if half.finish_reason else finish(tokenizer, half, tokens[len(tokens) // 2 :], decoding))
    assert finish(tokenizer, Response(0, []), tokens, Decoding(64, 1)).finish_reason is None


def test_any_end_mark_of_the_model_ends_a_response(policy: tuple[Any, Any], tmp_path: Path) -> None:
    """A chat model may end turns with another token than its tokenizer's end mark."""
    (whole,) = generate_responses(*policy, PROMPTS[:1], Decoding(20, 1), tmp_path, "test")
    end = whole.tokens[3]
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [policy[1].eos_token_id, end]}))
    (tmp_path / "journal.jsonl").unlink()
    decoding = Decoding(20, 1, ends=find_ends(Location(str(tmp_path))))
    (ended,) = generate_responses(*policy, PROMPTS[:1], decoding, tmp_path, "test")
    kept = whole.tokens[: whole.tokens.index(end)]
    assert (ended.tokens, ended.finish_reason, ended.end) == (kept, "stop", end)


def test_conversations_are_answered_and_judged_whole(trained: Path, tmp_path: Path, policy: tuple[Any, Any]) -> None:
    turns = [{"role": "user", "content": "I bake."}, {"role": "assistant", "content": "Nice."}]
    asked = [*turns, {"role": "user", "content": "What next?"}]
    path = write_lines(tmp_path / "prompts.jsonl", [{"prompt": asked}, {"prompt": "Hi"}])
    own = ["prompts=local", f"prompts.path={path}", "prompts.system=Be brief."]
    config = make_config(trained, "order=none", "base=none", *own)
    evaluate(config)
    (baseline,) = collect_groups(Store(trained / "store"), None, None)[-1].policies
    assert [record["prompt"] for record in baseline.records] == [
        "[system]\nBe brief.\n\n[user]\nI bake.\n\n[assistant]\nNice.\n\n[user]\nWhat next?",
        "[system]\nBe brief.\n\n[user]\nHi",
    ]
    prompts = load_prompts(config.prompts, config.dataset)
    messages = [{"role": "system", "content": "Be brief."}, *asked]
    tokens = policy[1].apply_chat_template(messages, add_generation_prompt=True)
    assert encode(policy[1], asked_of(prompts[0])) == tokens["input_ids"]


def test_the_scorer_reads_mean_states_of_response_and_prompt(run: Run, policy: tuple[Any, Any]) -> None:
    """In batches, with shared prompts computed once, what one dialogue after the other gives after the first layer."""
    location, tokenizer = locate(run, run.plan.policies["second"]), policy[1]
    dialogues = [("Hi", "Good day."), ("What is it?", "A cat, I think."), ("Hi", "Go."), ("Hi", "Good day.")]
    found = encode_dialogues(replace(run.config.judge, layer=1), location, dialogues, "reads")
    for states, (prompt, response) in zip(found, dialogues, strict=True):
        asked = [{"role": "user", "content": prompt}]
        whole = tokenizer.apply_chat_template([*asked, {"role": "assistant", "content": response}])["input_ids"]
        start = len(tokenizer.apply_chat_template(asked, add_generation_prompt=True)["input_ids"])
        with torch.no_grad():
            after = policy[0](input_ids=torch.tensor([whole]), output_hidden_states=True).hidden_states[1][0]
        expected = torch.cat([after[start:].mean(0), after[1:start].mean(0)])
        assert states == pytest.approx(expected.numpy(), abs=1e-5)


def test_divergence_is_zero_from_itself_and_as_by_hand_from_another(run: Run, policy: tuple[Any, Any]) -> None:
    model, tokenizer = policy
    location = locate(run, run.plan.policies["baseline"])
    baseline = load_policy(Location(location.path), "float32")
    torch.manual_seed(0)
    with torch.no_grad():  # far enough away for float32 to tell
        for parameter in baseline.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    prompt, said = encode(tokenizer, "Hi"), [5, 6, 7]
    response = Tokens(np.array(prompt), np.array([*said, tokenizer.eos_token_id]))
    assert measure_divergence(model, model, [response]) == [0.0]
    (value,) = measure_divergence(model, baseline, [response])
    by_hand = 0.0
    for length in range(4):  # three tokens and the end mark
        ids = torch.tensor([prompt + said[:length]])
        with torch.no_grad():
            ours, theirs = (m(input_ids=ids).logits[0, -1].double().softmax(-1) for m in (model, baseline))
        by_hand += float((ours * (ours / theirs).log()).sum())
    assert value == pytest.approx(by_hand, rel=1e-3)
    assert by_hand > 0.01
    # several responses at a time, for which each model is moved to the device and away again
    longer = Tokens(np.array([*prompt, *said]), np.array([*said, *said]))
    for device in ("cpu", "cpu:0"):
        values = measure_divergence(model, baseline, [longer, response, response], device)
        assert values[1:] == pytest.approx([value] * 2, rel=1e-4)
    # Ended by a stop string: the end mark was not drawn.
    (cut,) = measure_divergence(model, baseline, [Tokens(response.prompt, response.completion[:-1])])
    assert 0 < cut < value


def test_models_of_others_are_judged_beside_the_baseline(trained: Path, tmp_path: Path) -> None:
    """Here a folder, as no hub is at hand: other random weights of the same shape."""
    maker = open_run(make_config(trained, "seed=1", "base=none"))
    theirs = tmp_path / "theirs"
    theirs.symlink_to(locate(maker, maker.plan.model).path)
    evaluate(make_config(trained, "order=none", "base=none", f"others=[{theirs}]", "policies=all"))
    baseline, other = collect_groups(Store(trained / "store"), None, None)[-1].policies
    assert (baseline.name, baseline.is_baseline) == ("tiny (baseline)", True)
    assert (other.name, other.labels["model"], len(other.records)) == ("theirs", "tiny", 12)
    assert sum(other.kl.values()) > 0
