"""Compute the exact distribution of a trained policy over the responses of a world, without sampling."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sacpo_exp.data.preferences import Key, as_message, key_of
from sacpo_exp.data.tokenising import Tokens, tokenise
from sacpo_exp.method.theory import Table, normalise
from sacpo_exp.pipeline import Run, locate
from sacpo_exp.store import ArtifactSpec
from sacpo_exp.studies.oracle.world import World
from sacpo_exp.training.models import load_policy, load_tokenizer

if TYPE_CHECKING:
    import torch

NAME = "log_probabilities.json"
BATCH = 256


@dataclass(frozen=True)
class Measured:
    """A measured policy.

    Attributes:
        policy: log-probabilities among the world's responses, (prompts, responses).
        outside: probability of texts that are no response of the world, mean over prompts.
    """

    policy: Table
    outside: float


def measure_policy(run: Run, policy: ArtifactSpec, world: World) -> Measured:
    """Return the distribution of the policy in the world, computed once and stored."""
    recipe = {"prompts": list(world.prompts), "responses": list(world.responses)}
    spec = ArtifactSpec("distribution", policy.slug, recipe, (policy.id,), policy.labels)

    def build(folder: Path) -> dict[str, Any]:
        scores = score_responses(run, policy, world)
        (folder / NAME).write_text(json.dumps(scores.tolist()), "utf-8")
        return {"outside": _outside(scores)}

    run.store.get_or_build(spec, build)
    scores = np.array(json.loads((run.store.open(spec) / NAME).read_text("utf-8")))
    return Measured(normalise(scores), _outside(scores))


def _outside(scores: Table) -> float:
    return float(1 - np.exp(scores).sum(axis=-1).mean())


def score_responses(run: Run, policy: ArtifactSpec, world: World) -> Table:
    """Return the log-probability of each response to each prompt, including the end mark of the template."""
    location, template = locate(run, policy), run.config.model.chat_template
    tokenizer = load_tokenizer(location, template)
    weights = load_policy(location, "float32")
    keys = [
        (_key("user", prompt), _key("assistant", response)) for prompt in world.prompts for response in world.responses
    ]
    tokens = tokenise(tokenizer, keys)
    scores = [
        score
        for start in range(0, len(keys), BATCH)
        for score in _score(weights, [tokens[key] for key in keys[start : start + BATCH]], tokenizer.pad_token_id)
    ]
    return np.array(scores).reshape(world.reference.shape)


def _key(role: str, text: str) -> Key:
    return key_of(as_message(role, text))


def _score(weights: Any, batch: list[Tokens], padding: int) -> list[float]:
    """Return the sum over each completion; padding stands at the right, where no earlier position attends to it."""
    import torch

    sequences = [torch.from_numpy(np.concatenate([each.prompt, each.completion])).long() for each in batch]
    ids = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=padding)
    with torch.inference_mode():
        steps = weights(input_ids=ids).logits[:, :-1].double().log_softmax(-1)
        chosen = steps.gather(-1, ids[:, 1:, None])[..., 0]
    return [float(_completion(row, each).sum()) for row, each in zip(chosen, batch, strict=True)]


def _completion(row: "torch.Tensor", tokens: Tokens) -> "torch.Tensor":
    start = len(tokens.prompt) - 1
    return row[start : start + len(tokens.completion)]
