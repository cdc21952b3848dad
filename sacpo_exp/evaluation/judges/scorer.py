"""The embedded judge: one head per criterion on frozen hidden states, fitted on preferences of its own.

Each head is a Bradley–Terry model, that is a logistic regression without intercept on the difference of two
responses' states. The zero of a criterion with labels of single responses is then set by these: a response with a score
below 0 is more likely unacceptable than acceptable (the convention of Safe RLHF, Dai et al. 2024).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sacpo_exp.config.judges import ScorerJudgeConfig
from sacpo_exp.data.demo.contrasts import MISMATCHED
from sacpo_exp.data.preferences import Key, Row, as_message, is_acceptable, messages_of, preferred_index
from sacpo_exp.data.tokenising import Tokens
from sacpo_exp.errors import ConfigError
from sacpo_exp.evaluation.refusals import is_refusal
from sacpo_exp.evaluation.responding import read_completions
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.progress import Progress
from sacpo_exp.training.models import Location, keep_freed_memory, load_policy, load_tokenizer

HEADS = "heads.json"
BATCH = 32
INTERACTION = 0.5  # weight of products, of which are as many as of states: more told fewer ordinary pairs apart
Encoder = Callable[[Sequence[tuple[str | Key, str]], str], NDArray[np.float32]]


@dataclass(frozen=True)
class Heads:
    """Standardisation and linear heads by name of the criterion; higher scores are better.

    A head reads the response's state and its elementwise product with the prompt's, which is the interaction of both.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: dict[str, NDArray[np.float64]]
    offsets: dict[str, float]

    def score(self, criterion: str, states: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return scores of shape (n,) for states of shape (n, 2 · hidden size)."""
        return self.features(states) @ self.weights[criterion] + self.offsets[criterion]

    def features(self, states: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what the heads read of states of responses and prompts side by side, in the same shape."""
        response, prompt = np.split((states - self.mean) / self.scale, 2, axis=1)
        return np.concatenate([response, INTERACTION * response * prompt], axis=1)

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

    These are accuracies on ordinary pairs and, in `mismatched`, on pairs of a response to the prompt and one to another
    prompt. Beside the judge stand rules that see neither the prompt nor the order of words: word counts, the length and
    whether the response is a refusal. They are fitted on ordinary pairs alone: mismatched ones teach them nothing.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    dialogues = [[(row["prompt"], row[f"response_{i}"]) for row in part for i in (0, 1)] for part in (rows, heldout)]
    titles = ("scorer: reads its training pairs", "scorer: reads held-out pairs")
    states, heldout_states = (encode(part, title) for part, title in zip(dialogues, titles, strict=True))
    heads = _fit_heads(criteria, states, rows, judge.regularization)
    heads.save(folder)
    texts, heldout_texts = ([response for _, response in part] for part in dialogues)
    words = CountVectorizer().fit(texts)
    ordinary = [{} if "contrast" in row else row for row in rows]
    rules: dict[str, Callable[[list[str]], NDArray[np.float64]]] = {
        "bag_of_words": lambda part: words.transform(part).toarray().astype(float),
        "length_only": lambda part: np.array([[len(text)] for text in part], dtype=float),
        "keyword": lambda part: np.array([[is_refusal(text)] for text in part], dtype=float),
    }
    metrics: dict[str, Any] = {}
    for criterion in criteria:
        scores = {"accuracy": heads.score(criterion.name, heldout_states)}
        for name, read in rules.items():
            scores[name] = read(heldout_texts) @ _fit_pairs(read(texts), ordinary, criterion, regularization=1.0)
        metrics[criterion.name] = _measure(scores, heldout, criterion, None)
        metrics[criterion.name][MISMATCHED] = _measure(scores, heldout, criterion, MISMATCHED)
    return metrics


def _measure(
    scores: dict[str, NDArray[np.float64]], rows: Sequence[Row], criterion: Criterion, contrast: str | None
) -> dict[str, Any]:
    """Return the share of the rows with this `contrast` that each of the `scores` ranks right; ties count half."""
    places = [place for place in _labelled(rows, criterion) if rows[place].get("contrast") == contrast]
    signs = np.array([2 * preferred_index(rows[place], criterion) - 1 for place in places])
    agreement = {name: np.sign(each[1::2] - each[0::2])[places] * signs for name, each in scores.items()}
    return {name: float(np.mean(0.5 + 0.5 * each)) for name, each in agreement.items()} | {"n": len(places)}


def _labelled(rows: Sequence[Row], criterion: Criterion) -> list[int]:
    """Return the places of the rows with a label of the criterion; contrasts have that of one."""
    return [place for place, row in enumerate(rows) if criterion.preferred in row]


def _fit_pairs(
    features: NDArray[Any], rows: Sequence[Row], criterion: Criterion, regularization: float
) -> NDArray[np.float64]:
    """Return weights of shape (size,) for features (2 · rows, size) of row 0's first response, its second, row 1's …"""
    from sklearn.linear_model import LogisticRegression

    places = _labelled(rows, criterion)
    differences = (features[1::2] - features[0::2])[places]
    second = np.array([preferred_index(rows[place], criterion) for place in places])
    model = LogisticRegression(C=regularization, fit_intercept=False, max_iter=2000)
    # Each pair counts in both orders, so that order can't matter.
    model.fit(np.concatenate([differences, -differences]), np.concatenate([second, 1 - second]))
    return np.asarray(model.coef_[0], dtype=np.float64)


def _fit_heads(
    criteria: Sequence[Criterion], states: NDArray[np.float32], rows: Sequence[Row], regularization: float
) -> Heads:
    heads = Heads(states.mean(0).astype(np.float64), states.std(0).astype(np.float64) + 1e-6, {}, {})
    features = heads.features(states)
    for criterion in criteria:
        heads.weights[criterion.name] = _fit_pairs(features, rows, criterion, regularization)
        heads.offsets[criterion.name] = 0.0
        if criterion.acceptable is not None:
            single = [place for place, row in enumerate(rows) if criterion.acceptable.format(i=0) in row]
            labels = np.array([is_acceptable(rows[place], i, criterion) for place in single for i in (0, 1)])
            scores = heads.score(criterion.name, states).reshape(-1, 2)[single].ravel()
            heads.offsets[criterion.name] = _find_zero(scores, labels)
    return heads


def _find_zero(scores: NDArray[np.float64], safe: NDArray[np.bool_]) -> float:
    """Return the shift that puts 0 where safe and unsafe are equally likely; 0 if all labels are alike."""
    from sklearn.linear_model import LogisticRegression

    if safe.all() or not safe.any():
        return 0.0
    model = LogisticRegression().fit(scores[:, None], safe)
    slope = float(model.coef_[0, 0])
    return float(model.intercept_[0]) / slope if slope > 0 else 0.0


def encode_dialogues(
    judge: ScorerJudgeConfig, location: Location, dialogues: Sequence[tuple[str | Key, str]], title: str
) -> NDArray[np.float32]:
    """Return the mean hidden states over each response's and each prompt's tokens, (dialogues, 2 · hidden size).

    A response is read in the context of its prompt; the states are those after the first `judge.layer` layers. Equal
    dialogues are read once, in float32: CPUs without instructions for bfloat16 emulate it slowly.
    """
    import torch

    keep_freed_memory()
    tokenizer = load_tokenizer(location, judge.encoder.chat_template)
    policy = load_policy(location, "float32")
    body = policy.base_model
    if not 0 < judge.layer <= len(body.layers):
        raise ConfigError(f"`judge.layer` must lie between 1 and {len(body.layers)}, but is {judge.layer}.")
    body.layers = body.layers[: judge.layer]  # the rest would be computed for nothing
    body.norm = torch.nn.Identity()  # belongs behind the last layer
    policy.set_output_embeddings(torch.nn.Identity())  # states in place of logits
    # Neighbours share what is computed of a prompt.
    kinds = sorted(dict.fromkeys(dialogues), key=str)
    tokens, starts = zip(*(_tokenize(tokenizer, *dialogue, judge.max_length) for dialogue in kinds), strict=True)
    with Progress(len(kinds), title, "response") as bar:

        def read(index: int, states: torch.Tensor) -> Any:
            bar.update()
            prompt, response = states[1 : starts[index]], states[starts[index] :]  # not the first: an outlier
            return torch.cat([response.mean(0), prompt.mean(0)]).numpy()

        found = dict(zip(kinds, read_completions(policy, tokens, BATCH, read), strict=True))
    return np.stack([found[dialogue] for dialogue in dialogues])


def _tokenize(tokenizer: Any, prompt: str | Key, response: str, max_length: int) -> tuple[Tokens, int]:
    """Return the token ids of a dialogue, cut to `max_length`, and where its response begins.

    One more token follows, and all after the first are a completion: the states that predict it are those of all ids.
    """
    messages = messages_of(prompt)
    before = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    messages += as_message("assistant", response)
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    start = len(tokenizer(before, add_special_tokens=False)["input_ids"])
    ids = tokenizer(whole, add_special_tokens=False)["input_ids"][:max_length]
    return Tokens(np.array(ids[:1]), np.array([*ids[1:], ids[-1]])), min(start, len(ids) - 1)
