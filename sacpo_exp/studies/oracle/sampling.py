"""Draw preference data from a world, in the schemas that `prepare` reads. Pure, seeded.

Prompts and responses are drawn uniformly: what a preference loss converges to does not depend on which responses are
compared, only how many comparisons it takes. Of the same seed a smaller draw is the beginning of a larger one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sacpo_exp.data.preferences import Row
from sacpo_exp.method.theory import Table
from sacpo_exp.studies.oracle.world import World, chance_of

Indices = NDArray[np.int64]
#: Number of the stream of the reference policy's samples; see `_stream` for the others.
SAMPLES = 0
#: And of pairs that are labelled for both criteria.
BOTH = 1_000_000
FORMS = ("pairs", "labels")
PARTS = ("train", "heldout")


@dataclass(frozen=True)
class Pairs:
    """Comparisons as indices into a world's prompts and responses, each of shape (n,)."""

    prompt: Indices
    chosen: Indices
    rejected: Indices


def draw_pairs(world: World, criterion: str, count: int, seed: int, part: str = "train") -> Pairs:
    """Draw pairs of different responses; the first is chosen with probability sigmoid(v₁ − v₂) (Bradley–Terry)."""
    chance = _uniform(_stream(world, "pairs", criterion), count, 4, seed, part)
    size = len(world.responses)
    prompt, first = _index(chance[:, 0], len(world.prompts)), _index(chance[:, 1], size)
    second = (first + 1 + _index(chance[:, 2], size - 1)) % size
    values = world.values[criterion]
    is_first = chance[:, 3] < 1 / (1 + np.exp(values[prompt, second] - values[prompt, first]))
    return Pairs(prompt, np.where(is_first, first, second), np.where(is_first, second, first))


def pair_rows(world: World, pairs: Pairs) -> Iterator[Row]:
    """Yield rows of the schema `pairs`."""
    for prompt, chosen, rejected in zip(pairs.prompt, pairs.chosen, pairs.rejected, strict=True):
        texts = {"chosen": world.responses[chosen], "rejected": world.responses[rejected]}
        yield {"prompt": world.prompts[prompt]} | texts


def count_wins(world: World, pairs: Pairs) -> Table:
    """Return how often each response was chosen over each other: (prompts, chosen, rejected)."""
    wins = np.zeros((*world.reference.shape, len(world.responses)))
    np.add.at(wins, (pairs.prompt, pairs.chosen, pairs.rejected), 1)
    return wins


def draw_wins(world: World, criterion: str, count: int, draws: int, seed: int) -> Table:
    """Return `count_wins` of independent draws of `count` pairs: (draws, prompts, chosen, rejected)."""
    chance = np.random.default_rng([seed, _stream(world, "pairs", criterion), len(PARTS)])
    values = world.values[criterion]
    prompts, size = values.shape
    first, second = np.triu_indices(size, 1)
    cells = chance.multinomial(count, np.full(prompts * len(first), 1 / (prompts * len(first))), size=draws)
    drawn = cells.reshape(draws, prompts, len(first))
    won = chance.binomial(drawn, chance_of(values[:, first] - values[:, second]))
    wins = np.zeros((draws, prompts, size, size))
    wins[:, :, first, second], wins[:, :, second, first] = won, drawn - won
    return wins


def rows_of_both(world: World, count: int, seed: int, part: str = "train") -> Iterator[Row]:
    """Yield rows of the schema `pku`: pairs labelled for the reward and the first constraint g.

    A response is safe with probability sigmoid(g).
    """
    chance = _uniform(BOTH, count, 7, seed, part)
    prompts, first = _index(chance[:, 0], len(world.prompts)), _index(chance[:, 1], len(world.responses))
    second = (first + 1 + _index(chance[:, 2], len(world.responses) - 1)) % len(world.responses)
    for prompt, pair, draws in zip(prompts, np.stack([first, second], axis=1), chance[:, 3:], strict=True):
        better, safer = (
            int(draws[i] >= chance_of(values[prompt, pair[0]] - values[prompt, pair[1]]))
            for i, values in enumerate([world.reward, next(iter(world.constraints.values()))])
        )
        safe = draws[2:] < chance_of(next(iter(world.constraints.values()))[prompt, pair])
        row: Row = {"prompt": world.prompts[prompt], "better_response_id": better, "safer_response_id": safer}
        for i in (0, 1):
            row |= {f"response_{i}": world.responses[pair[i]], f"is_response_{i}_safe": bool(safe[i])}
        yield row


def label_rows(world: World, criterion: str, count: int, seed: int, part: str = "train") -> Iterator[Row]:
    """Yield rows of the schema `unpaired`: a response is desirable with probability sigmoid(v)."""
    chance = _uniform(_stream(world, "labels", criterion), count, 3, seed, part)
    prompts, responses = _index(chance[:, 0], len(world.prompts)), _index(chance[:, 1], len(world.responses))
    labels = chance[:, 2] < chance_of(world.values[criterion])[prompts, responses]
    for prompt, response, label in zip(prompts, responses, labels, strict=True):
        yield {"prompt": world.prompts[prompt], "completion": world.responses[response], "label": bool(label)}


def sample_rows(world: World, count: int, seed: int, part: str = "train") -> Iterator[Row]:
    """Yield rows of the schema `unpaired`, all desirable: samples of the reference policy, for the base stage."""
    chance = _uniform(SAMPLES, count, 2, seed, part)
    prompts = _index(chance[:, 0], len(world.prompts))
    ends = np.exp(world.reference).cumsum(axis=-1)[prompts, :-1]  # the last end is 1 but for rounding
    responses = (chance[:, 1:] >= ends).sum(axis=-1)
    for prompt, response in zip(prompts, responses, strict=True):
        yield {"prompt": world.prompts[prompt], "completion": world.responses[response], "label": True}


def _stream(world: World, form: str, criterion: str) -> int:
    """Return a number for each form and criterion, so that their draws are independent.

    Criteria are numbered in twos, so that adding one does not change the streams of the others.
    """
    two, place = divmod(list(world.values).index(criterion), 2)
    return 1 + 4 * two + 2 * FORMS.index(form) + place


def _uniform(stream: int, rows: int, columns: int, seed: int, part: str) -> NDArray[np.float64]:
    return np.random.default_rng([seed, stream, PARTS.index(part)]).random((rows, columns))


def _index(chance: NDArray[np.float64], size: int) -> Indices:
    """Convert numbers in [0, 1) to indices below `size`."""
    return (chance * size).astype(np.int64)
