"""The embedded judge: one head per criterion on frozen hidden states, fitted on preferences of its own.

Each head is a Bradley–Terry model, that is a logistic regression without intercept on the difference of two
responses' states. The zero of a criterion with labels of single responses is then set by these: a response with a score
below 0 is more likely unacceptable than acceptable (the convention of Safe RLHF, Dai et al. 2024).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sacpo_exp.config.judges import ScorerJudgeConfig
from sacpo_exp.data.preferences import Row, is_acceptable, preferred_index
from sacpo_exp.errors import ConfigError
from sacpo_exp.evaluation.refusals import is_refusal
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.progress import Progress
from sacpo_exp.training.models import Location, keep_freed_memory, load_policy, load_tokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADS = "heads.json"
BATCH = 32
Encoder = Callable[[Sequence[tuple[str, str]], str], "NDArray[np.float32]"]


@dataclass(frozen=True)
class Heads:
    """Standardisation and linear heads by name of the criterion; higher scores are better."""

    mean: "NDArray[np.float64]"
    scale: "NDArray[np.float64]"
    weights: dict[str, "NDArray[np.float64]"]
    offsets: dict[str, float]

    def score(self, criterion: str, states: "NDArray[np.float32]") -> "NDArray[np.float64]":
        """Return scores of shape (n,) for states of shape (n, hidden size)."""
        return (states - self.mean) / self.scale @ self.weights[criterion] + self.offsets[criterion]

    def save(self, folder: Path) -> None:
        arrays = {"mean": self.mean.tolist(), "scale": self.scale.tolist(), "offsets": self.offsets}
        arrays |= {"weights": {name: weights.tolist() for name, weights in self.weights.items()}}
        (folder / HEADS).write_text(json.dumps(arrays), "utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Heads":
        read = json.loads((folder / HEADS).read_text("utf-8"))
        weights = {name: np.array(values) for name, values in read["weights"].items()}
        return cls(np.array(read["mean"]), np.array(read["scale"]), weights, read["offsets"])


def fit_scorer(
    judge: ScorerJudgeConfig,
    criteria: Sequence[Criterion],
    encode: Encoder,
    rows: Sequence[Row],
    heldout: Sequence[Row],
    folder: Path,
) -> dict[str, Any]:
    """Fit the heads on `rows`, write them into `folder`, and return what they reach on `heldout`, by criterion.

    Besides a head's accuracy these are the accuracies of two rules that see only length or only a refusal.
    """
    states, heldout_states = (
        encode([(row["prompt"], row[f"response_{i}"]) for row in part for i in (0, 1)], f"scorer: reads {name} pairs")
        for part, name in ((rows, "its training"), (heldout, "held-out"))
    )
    heads = _fit_heads(criteria, states, rows, judge.regularization)
    heads.save(folder)
    metrics = {}
    for criterion in criteria:
        scores = heads.score(criterion.name, heldout_states)
        preferred = np.array([preferred_index(row, criterion) for row in heldout])
        metrics[criterion.name] = {
            "accuracy": float(np.mean((scores[1::2] > scores[0::2]) == preferred)),
            "length_only": _rule_accuracy(len, criterion, rows, heldout),
            "keyword": _rule_accuracy(is_refusal, criterion, rows, heldout),
            "n": len(heldout),
        }
    return metrics


def _fit_heads(
    criteria: Sequence[Criterion], states: "NDArray[np.float32]", rows: Sequence[Row], regularization: float
) -> Heads:
    """Fit on `states` of shape (2 · rows, hidden size): row 0's first response, row 0's second, row 1's first, …"""
    from sklearn.linear_model import LogisticRegression

    mean, scale = states.mean(0).astype(np.float64), states.std(0).astype(np.float64) + 1e-6
    standard = (states - mean) / scale
    differences = standard[1::2] - standard[0::2]
    weights, offsets = {}, {}
    for criterion in criteria:
        second = np.array([preferred_index(row, criterion) for row in rows])
        model = LogisticRegression(C=regularization, fit_intercept=False, max_iter=2000)
        # Each pair counts in both orders, so that order can't matter.
        model.fit(np.concatenate([differences, -differences]), np.concatenate([second, 1 - second]))
        weights[criterion.name] = np.asarray(model.coef_[0], dtype=np.float64)
        offsets[criterion.name] = 0.0
        if criterion.acceptable is not None:
            labels = np.array([is_acceptable(row, i, criterion) for row in rows for i in (0, 1)])
            offsets[criterion.name] = _find_zero(standard @ weights[criterion.name], labels)
    return Heads(mean, scale, weights, offsets)


def _find_zero(scores: "NDArray[np.float64]", safe: "NDArray[np.bool_]") -> float:
    """Return the shift that puts 0 where safe and unsafe are equally likely; 0 if all labels are alike."""
    from sklearn.linear_model import LogisticRegression

    if safe.all() or not safe.any():
        return 0.0
    model = LogisticRegression().fit(scores[:, None], safe)
    slope = float(model.coef_[0, 0])
    return float(model.intercept_[0]) / slope if slope > 0 else 0.0


def _rule_accuracy(
    feature: Callable[[str], int], criterion: Criterion, rows: Sequence[Row], heldout: Sequence[Row]
) -> float:
    """Return the held-out accuracy of preferring the response with more (or less) of `feature`; ties count half."""

    def agreement(data: Sequence[Row]) -> float:
        signs = [np.sign(feature(row["response_1"]) - feature(row["response_0"])) for row in data]
        labels = [2 * preferred_index(row, criterion) - 1 for row in data]
        return float(np.mean([0.5 + 0.5 * sign * label for sign, label in zip(signs, labels, strict=True)]))

    return agreement(heldout) if agreement(rows) >= 0.5 else 1 - agreement(heldout)


def encode_dialogues(
    judge: ScorerJudgeConfig, location: Location, dialogues: Sequence[tuple[str, str]], title: str
) -> "NDArray[np.float32]":
    """Return the mean hidden state over each response's tokens, of shape (dialogues, hidden size).

    A response is read in the context of its prompt; the states are those after the first `judge.layer` layers.
    """
    import torch

    keep_freed_memory()
    tokenizer = load_tokenizer(location, judge.encoder.chat_template)
    tokenizer.padding_side = "right"
    body = load_policy(location, "float32").base_model
    if not 0 < judge.layer <= len(body.layers):
        raise ConfigError(f"`judge.layer` must lie between 1 and {len(body.layers)}, but is {judge.layer}.")
    body.layers = body.layers[: judge.layer]  # the rest would be computed for nothing
    body.norm = torch.nn.Identity()  # belongs behind the last layer
    tokens = [_tokenize(tokenizer, *dialogue, judge.max_length) for dialogue in dialogues]
    order = sorted(range(len(tokens)), key=lambda index: len(tokens[index][0]))
    states = np.zeros((len(tokens), body.config.hidden_size), dtype=np.float32)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), Progress(len(tokens), title, "response") as bar:
        for first in range(0, len(order), BATCH):
            batch = order[first : first + BATCH]
            inputs = tokenizer.pad([{"input_ids": tokens[index][0]} for index in batch], return_tensors="pt")
            hidden = body(**inputs, use_cache=False).last_hidden_state.float()
            for row, index in enumerate(batch):
                ids, start = tokens[index]
                states[index] = hidden[row, start : len(ids)].mean(0).numpy()
            bar.update(len(batch))
    return states


def _tokenize(tokenizer: Any, prompt: str, response: str, max_length: int) -> tuple[list[int], int]:
    """Return the token ids of a dialogue, cut to `max_length`, and where its response begins."""
    messages = [{"role": "user", "content": prompt}]
    before = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    messages.append({"role": "assistant", "content": response})
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    start = len(tokenizer(before, add_special_tokens=False)["input_ids"])
    ids = tokenizer(whole, add_special_tokens=False)["input_ids"][:max_length]
    return ids, min(start, len(ids) - 1)
