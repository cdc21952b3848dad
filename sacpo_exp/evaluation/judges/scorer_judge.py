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
from sacpo_exp.evaluation.refusals import is_refusal
from sacpo_exp.method.criteria import Criterion

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADS = "heads.json"
Encoder = Callable[[Sequence[tuple[str, str]], str], "NDArray[np.float32]"]


@dataclass(frozen=True)
class Heads:
    """Standardisation and linear heads by name of the criterion; higher scores are better."""

    mean: "NDArray[np.float64]"
    scale: "NDArray[np.float64]"
    weights: dict[str, "NDArray[np.float64]"]
    offsets: dict[str, float]

    def score(self, criterion: str, states: "NDArray[np.float32]") -> "NDArray[np.float64]":
        """Scores of shape (n,) for states of shape (n, hidden size)."""
        standard = (states - self.mean) / self.scale
        return standard @ self.weights[criterion] + self.offsets[criterion]

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
    """Fit the heads on `rows`, write them into `folder`, and return what they reach on `heldout`."""
    states = encode(dialogues_of(rows), "scorer: reads its training pairs")
    heldout_states = encode(dialogues_of(heldout), "scorer: reads held-out pairs")
    heads = fit_heads(criteria, states, rows, judge.regularization)
    heads.save(folder)
    return {criterion.name: measure_head(heads, criterion, rows, heldout, heldout_states) for criterion in criteria}


def dialogues_of(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Both responses of every row with their prompt: row 0's first, row 0's second, row 1's first, …"""
    return [(row["prompt"], row[f"response_{i}"]) for row in rows for i in (0, 1)]


def fit_heads(
    criteria: Sequence[Criterion], states: "NDArray[np.float32]", rows: Sequence[Row], regularization: float
) -> Heads:
    """Bradley–Terry heads; `states` has shape (2 · rows, hidden size), ordered as `dialogues_of`."""
    mean, scale = states.mean(0).astype(np.float64), states.std(0).astype(np.float64) + 1e-6
    standard = (states - mean) / scale
    weights, offsets = {}, {}
    for criterion in criteria:
        second_preferred = np.array([preferred_index(row, criterion) for row in rows])
        differences = standard[1::2] - standard[0::2]
        weights[criterion.name] = fit_direction(differences, second_preferred, regularization)
        offsets[criterion.name] = 0.0
        if criterion.acceptable is not None:
            labels = np.array([is_acceptable(row, i, criterion) for row in rows for i in (0, 1)])
            offsets[criterion.name] = find_zero(standard @ weights[criterion.name], labels)
    return Heads(mean, scale, weights, offsets)


def fit_direction(
    differences: "NDArray[np.float64]", second_preferred: "NDArray[np.int64]", regularization: float
) -> "NDArray[np.float64]":
    """Weights of shape (hidden size,): each pair counts in both orders, so that order can't matter."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=regularization, fit_intercept=False, max_iter=2000)
    model.fit(np.concatenate([differences, -differences]), np.concatenate([second_preferred, 1 - second_preferred]))
    return np.asarray(model.coef_[0], dtype=np.float64)


def find_zero(scores: "NDArray[np.float64]", safe: "NDArray[np.bool_]") -> float:
    """What to add to the scores so that 0 is where safe and unsafe are equally likely; 0 if all labels are alike."""
    from sklearn.linear_model import LogisticRegression

    if safe.all() or not safe.any():
        return 0.0
    model = LogisticRegression().fit(scores[:, None], safe)
    slope = float(model.coef_[0, 0])
    return float(model.intercept_[0]) / slope if slope > 0 else 0.0


def measure_head(
    heads: Heads, criterion: Criterion, rows: Sequence[Row], heldout: Sequence[Row], states: "NDArray[np.float32]"
) -> dict[str, Any]:
    """Held-out accuracy of a head, and of two rules that see only length or only a refusal.

    The rules may choose their sign on the scorer's own rows, so that neither is handicapped.
    """
    scores = heads.score(criterion.name, states)
    preferred = np.array([preferred_index(row, criterion) for row in heldout])
    return {
        "accuracy": float(np.mean((scores[1::2] > scores[0::2]) == preferred)),
        "length_only": rule_accuracy(len, criterion, rows, heldout),
        "keyword": rule_accuracy(is_refusal, criterion, rows, heldout),
        "n": len(heldout),
    }


def rule_accuracy(
    feature: Callable[[str], int], criterion: Criterion, rows: Sequence[Row], heldout: Sequence[Row]
) -> float:
    """Held-out accuracy of preferring the response with more (or less) of `feature`; equal ones count half."""

    def agreement(data: Sequence[Row]) -> float:
        signs = [np.sign(feature(row["response_1"]) - feature(row["response_0"])) for row in data]
        labels = [2 * preferred_index(row, criterion) - 1 for row in data]
        return float(np.mean([0.5 + 0.5 * sign * label for sign, label in zip(signs, labels, strict=True)]))

    return agreement(heldout) if agreement(rows) >= 0.5 else 1 - agreement(heldout)
