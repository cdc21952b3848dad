"""Reward and cost models as judges, against a plain pass of one dialogue at a time without padding."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaModel,
    PreTrainedTokenizerBase,
)

from sacpo_exp.config.judges import HeadConfig, HeadForm, HigherIs, RewardModelJudgeConfig
from sacpo_exp.config.models import FloatType, ModelConfig, ModelSource
from sacpo_exp.config.schema import JudgeKind
from sacpo_exp.data.demo import generate_rows
from sacpo_exp.errors import ConfigError, JudgeError
from sacpo_exp.evaluation.judges.reward_model import score_responses
from sacpo_exp.training.embedded import END, START, train_tokenizer
from sacpo_exp.training.models import Location

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>{% endfor %}"
)
DIALOGUES = [(row["prompt"], row["response_0"]) for row in generate_rows("heldout", 0)[:11]]
DIALOGUES += [("Hello?", ""), ("Hello?", "Hello. " * 30)]
POSITIONS = 256


@dataclass(frozen=True)
class Form:
    """One way of writing a reward model: how it is saved, and what it gives for some token ids."""

    head: HeadForm
    save: Callable[[Path], None]
    score: Callable[[Path, list[int]], float]


@cache
def make_tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer([text for dialogue in DIALOGUES for text in dialogue], 400, POSITIONS)


def make_config(**settings: Any) -> LlamaConfig:
    """A small LLaMA's shape, with weights so large that scores differ."""
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    return LlamaConfig(
        vocab_size=len(tokenizer),
        **shape,
        max_position_embeddings=POSITIONS,
        initializer_range=0.3,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **settings,
    )


def save_classifier(folder: Path, **settings: Any) -> None:
    config = make_config(num_labels=settings.pop("num_labels", 1), **settings)
    LlamaForSequenceClassification(config).save_pretrained(folder)


def score_by_classifier(folder: Path, ids: list[int]) -> float:
    with torch.inference_mode():
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
        return float(model(torch.tensor([ids])).logits[0, 0])


def save_score_model(folder: Path, **settings: Any) -> None:
    """A checkpoint with the names of PKU-Alignment/beaver-7b-v1.0-cost."""
    config = make_config()
    body = LlamaModel(config)
    weights = {f"model.{name}": weight.contiguous() for name, weight in body.state_dict().items()}
    weights |= {"score_head.weight": torch.randn(1, config.hidden_size), "score_head.bias": torch.tensor([0.7])}
    weights |= {"normalizer.mean": torch.zeros(1), "normalizer.var": torch.ones(1), "normalizer.count": torch.ones(1)}
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    extra = {"architectures": ["LlamaForScore"], "score_dim": 1, "score_bias": True, "score_type": "cost"}
    extra |= {"do_normalize": False, "normalizer_type": "ExponentialMovingAverage", **settings}
    (folder / "config.json").write_text(json.dumps(config.to_dict() | extra))


def score_by_hand(folder: Path, ids: list[int]) -> float:
    """The last token's state times the head, from the file's tensors."""
    weights = load_file(folder / "model.safetensors")
    body = LlamaModel(LlamaConfig.from_pretrained(folder)).eval()
    body.load_state_dict({name[6:]: weight for name, weight in weights.items() if name.startswith("model.")})
    with torch.inference_mode():
        end = body(torch.tensor([ids])).last_hidden_state[0, -1]
    return float(end @ weights["score_head.weight"][0] + weights.get("score_head.bias", torch.zeros(1))[0])


CLASSIFIER = Form(HeadForm.sequence_classification, save_classifier, score_by_classifier)
SCORE_MODEL = Form(HeadForm.score_head, save_score_model, score_by_hand)
both_forms = pytest.mark.parametrize("form", [CLASSIFIER, SCORE_MODEL], ids=lambda form: form.head.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a tokenizer."""
    make_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def make_judge(form: Form, **settings: Any) -> RewardModelJudgeConfig:
    model = ModelConfig(name="tiny", source=ModelSource.path, chat_template=TEMPLATE)
    head = HeadConfig(model=model, form=form.head, higher_is=HigherIs.better)
    defaults: dict[str, Any] = {"dtype": FloatType.float32, "max_length": POSITIONS, "batch_size": 4}
    own = {"name": "tiny", "kind": JudgeKind.reward_model, "heads": {"helpfulness": head}}
    return RewardModelJudgeConfig(**(own | defaults | settings))


def score(judge: RewardModelJudgeConfig, folder: Path, dialogues: list[tuple[str, str]]) -> NDArray[np.float64]:
    return score_responses(judge, "helpfulness", Location(str(folder)), dialogues, "test")


def encode(prompt: str, response: str) -> list[int]:
    turns = f"{START}user\n{prompt}{END}{START}assistant\n{response}{END}"
    return list(make_tokenizer()(turns, add_special_tokens=False)["input_ids"])


@both_forms
def test_scores_are_those_of_one_dialogue_at_a_time_without_padding(folder: Path, form: Form) -> None:
    form.save(folder)
    expected = [form.score(folder, encode(*dialogue)) for dialogue in DIALOGUES]
    scores = score(make_judge(form), folder, DIALOGUES[::-1])[::-1]
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert np.ptp(expected) > 0.1
    assert len({round(value, 3) for value in expected}) == len(DIALOGUES)


def test_a_model_with_a_padding_token_reads_to_what_it_takes_for_the_end(folder: Path) -> None:
    save_classifier(folder, pad_token_id=make_tokenizer().eos_token_id)
    whole = [encode(*dialogue) for dialogue in DIALOGUES]
    expected = [score_by_classifier(folder, ids) for ids in whole]
    np.testing.assert_allclose(score(make_judge(CLASSIFIER), folder, DIALOGUES), expected, atol=1e-4)
    np.testing.assert_allclose(expected, [score_by_classifier(folder, ids[:-1]) for ids in whole], atol=1e-4)


@both_forms
def test_a_cost_counts_against_a_response(folder: Path, form: Form) -> None:
    form.save(folder)
    judge = make_judge(form)
    judge.heads["safety"] = replace(judge.heads["helpfulness"], higher_is=HigherIs.worse)
    costs = score(judge, folder, DIALOGUES)
    scores = score_responses(judge, "safety", Location(str(folder)), DIALOGUES, "test")
    np.testing.assert_array_equal(scores, -costs)
    np.testing.assert_array_equal(scores >= 0, costs <= 0)
    assert 0 < (scores >= 0).sum() < len(scores)


def test_a_checkpoint_may_have_no_bias_and_what_is_no_number_is_no_score(folder: Path) -> None:
    save_score_model(folder)
    biased = score(make_judge(SCORE_MODEL), folder, DIALOGUES)
    weights = load_file(folder / "model.safetensors")
    bias = weights.pop("score_head.bias")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    np.testing.assert_allclose(score(make_judge(SCORE_MODEL), folder, DIALOGUES), biased - 0.7, atol=1e-4)
    weights["score_head.bias"] = bias * float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(JudgeError, match=r"gives no finite score to 13 of 13 responses \(judge\.dtype=float32\)"):
        score(make_judge(SCORE_MODEL), folder, DIALOGUES)


@both_forms
def test_long_dialogues_are_cut_at_the_end_and_counted(
    folder: Path, form: Form, caplog: pytest.LogCaptureFixture
) -> None:
    form.save(folder)
    whole = [encode(*dialogue) for dialogue in DIALOGUES]
    limit = sorted(len(ids) for ids in whole)[5]
    scores = score(make_judge(form, max_length=limit), folder, DIALOGUES)
    np.testing.assert_allclose(scores, [form.score(folder, ids[:limit]) for ids in whole], atol=1e-4)
    cut = sum(len(ids) > limit for ids in whole)
    assert 0 < cut < len(whole)
    assert f"{cut} of 13 dialogues cut to judge.max_length={limit} tokens" in caplog.text
    with pytest.raises(ConfigError, match=r"^`judge\.max_length` must be at most 256, the positions .* but is 257\.$"):
        score(make_judge(form, max_length=257), folder, DIALOGUES)


@pytest.mark.parametrize("is_written", [True, False], ids=["by the template", "by the tokenizer"])
def test_the_mark_that_begins_a_text_is_there_once(folder: Path, is_written: bool) -> None:
    save_score_model(folder)
    tokenizer = make_tokenizer()
    llama = tokenizer.from_pretrained(folder)
    llama.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, llama.bos_token_id)]
    )
    llama.save_pretrained(folder)
    judge = make_judge(SCORE_MODEL)
    text = "{% for message in messages %}{{ message['content'] }}{{ eos_token }}{% endfor %}"
    judge.heads["helpfulness"].model.chat_template = ("{{ bos_token }}" if is_written else "") + text
    ids = tokenizer(f"{START}Hi?{END}Hi.{END}", add_special_tokens=False)["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1
    assert score(judge, folder, [("Hi?", "Hi.")])[0] == pytest.approx(score_by_hand(folder, list(ids)), abs=1e-4)


def test_a_tokenizer_s_own_template_is_used_where_none_is_given(folder: Path) -> None:
    save_score_model(folder)
    judge = make_judge(SCORE_MODEL)
    expected = score(judge, folder, DIALOGUES)
    judge.heads["helpfulness"].model.chat_template = None
    with pytest.raises(ConfigError) as caught:
        score(judge, folder, DIALOGUES)
    assert str(caught.value).startswith(f"{folder} has no chat template. Try: ")
    assert "`judge.heads.helpfulness.model.chat_template=...`" in str(caught.value)
    with_template = make_tokenizer().from_pretrained(folder)
    with_template.chat_template = TEMPLATE
    with_template.save_pretrained(folder)
    np.testing.assert_allclose(score(judge, folder, DIALOGUES), expected, atol=1e-6)


def save_pickle(folder: Path) -> None:
    save_score_model(folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def save_language_model(folder: Path) -> None:
    LlamaForCausalLM(make_config(num_labels=1)).save_pretrained(folder)


KEY = "`judge.heads.helpfulness.model`"


@pytest.mark.parametrize(
    ("form", "save", "lacks", "message"),
    [
        (CLASSIFIER, partial(save_classifier, num_labels=2), None, f"{KEY} must give one score, but DIR gives 2 (its"),
        (CLASSIFIER, save_language_model, None, f"{KEY} must have weights for its head, but DIR has no score.weight."),
        (SCORE_MODEL, save_pickle, None, "no model can be loaded from DIR: "),
        (SCORE_MODEL, save_score_model, "tokenizer.json", "DIR has no tokenizer that can be read: "),
    ],
)
def test_a_model_that_gives_no_score_is_refused(
    folder: Path,
    form: Form,
    save: Callable[[Path], None],
    lacks: str | None,
    message: str,
) -> None:
    save(folder)
    if lacks:
        (folder / lacks).unlink()
    with pytest.raises(ConfigError) as caught:
        score(make_judge(form), folder, DIALOGUES[:1])
    assert str(caught.value).replace(str(folder), "DIR").startswith(message)


def test_beaver_reads_a_dialogue_as_it_was_trained_to(configure: Callable[..., Any]) -> None:
    tokenizer, judge = make_tokenizer(), configure("judge=reward_model", command="eval").judge
    assert [head.higher_is for head in judge.heads.values()] == [HigherIs.better, HigherIs.worse]
    said = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Hello! How are you?"}]
    for head in judge.heads.values():
        text = tokenizer.apply_chat_template(said, chat_template=head.model.chat_template, tokenize=False)
        start = tokenizer.bos_token
        assert text == f"{start}BEGINNING OF CONVERSATION: USER: hello ASSISTANT:Hello! How are you?{END}"
