"""A world of finitely many prompts and responses with known criteria and reference policy, and data drawn from it.

Pure and seeded. Prompts and responses are drawn uniformly: what a preference loss converges to does not depend on which
responses are compared, only how many comparisons it takes. Of the same seed a smaller draw is the beginning of a larger
one.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sacpo_exp.config.studies import WorldConfig
from sacpo_exp.data.preferences import Row
from sacpo_exp.method.theory import Table, find_strengths, merge, normalise, tilt, tilt_stepwise

#: Letters that responses are spelled with; short ones share beginnings, so that end marks count.
LETTERS = "abc"
Indices = NDArray[np.int64]
FORMS = ("pairs", "labels")
PARTS = ("train", "heldout")


@dataclass(frozen=True)
class World:
    """The true values of every prompt and response.

    Attributes:
        prompts, responses: their texts; every prompt has the same responses.
        reference: the policy that alignment starts from and stays close to; log-probabilities, (prompts, responses).
        values: of the reward r, then of each constraint g, in nats at β = 1, (prompts, responses).
    """

    prompts: tuple[str, ...]
    responses: tuple[str, ...]
    reference: Table
    values: dict[str, Table]

    @property
    def reward(self) -> Table:
        return next(iter(self.values.values()))

    @property
    def constraints(self) -> dict[str, Table]:
        return dict(list(self.values.items())[1:])


def make_world(config: WorldConfig, criteria: Sequence[str]) -> World:
    """Return a world by seed, with the first of `criteria` as its reward.

    Over the responses of a prompt every criterion has mean 0 and standard deviation `scale`, and every constraint has
    exactly the `correlation` with the reward, and its square with other constraints; below zero reward and constraints
    conflict. Adding criteria does not change the ones before them.
    """
    chance = np.random.default_rng(config.seed)
    shape = (config.prompts, config.responses)
    reference = normalise(config.spread * chance.standard_normal(shape))
    independent: list[Table] = []
    for _ in criteria:
        drawn = _standardise(chance.standard_normal(shape))
        for known in independent:
            drawn = _standardise(drawn - known * (known * drawn).mean(axis=-1, keepdims=True))
        independent.append(drawn)
    reward, *others = independent
    tables = [reward, *(config.correlation * reward + np.sqrt(1 - config.correlation**2) * other for other in others)]
    values = {name: config.scale * table for name, table in zip(criteria, tables, strict=True)}
    return World(tuple(map(str, range(config.prompts))), spell_responses(config.responses), reference, values)


def _standardise(values: Table) -> Table:
    centred = values - values.mean(axis=-1, keepdims=True)
    standardised: Table = centred / centred.std(axis=-1, keepdims=True)
    return standardised


def spell_responses(count: int) -> tuple[str, ...]:
    """Return the shortest texts over `LETTERS`: a, b, c, aa, ab, …"""
    texts = ("".join(letters) for size in itertools.count(1) for letters in itertools.product(LETTERS, repeat=size))
    return tuple(itertools.islice(texts, count))


def optimum(world: World, beta: float, multipliers: Sequence[float]) -> Table:
    """π* ∝ π_ref · exp((r + Σ λ_i·g_i)/β)."""
    return tilt(world.reference, world.reward + weigh(world, multipliers), beta)


def weigh(world: World, multipliers: Sequence[float]) -> Table:
    """Σ λ_i·g_i."""
    terms = zip(multipliers, world.constraints.values(), strict=True)
    return np.array(sum(multiplier * values for multiplier, values in terms))


def stages_of(world: World, beta: float, multipliers: Sequence[float], order: Sequence[str]) -> list[tuple[str, float]]:
    """Return criterion and KL strength of each stage of an order: β for the reward, β/λ for a constraint."""
    by_name = dict(zip(world.constraints, multipliers, strict=True))
    return list(zip(order, find_strengths(beta, by_name, order), strict=True))


def align(world: World, beta: float, multipliers: Sequence[float], order: Sequence[str]) -> list[Table]:
    """Return the exact policy after each stage of an order (Theorem 1, Remark 2)."""
    stages = [(world.values[name], strength) for name, strength in stages_of(world, beta, multipliers, order)]
    return [tilt_stepwise(world.reference, stages[: place + 1]) for place in range(len(stages))]


def merged(world: World, beta: float, multipliers: Sequence[float], ratio: float, order: Sequence[str]) -> Table:
    """Return P-SACPO's exact policy after two stages, of weight q = `ratio` for the second one's.

    The optimum for qλ with the reward first; with the constraint first that for β/q and λ/q.
    """
    return merge(align(world, beta, multipliers, order), (1 - ratio, ratio))


def chance_of(values: Table) -> Table:
    """Return the probability that a response of each value is labelled desirable: sigmoid(values)."""
    chance: Table = 1 / (1 + np.exp(-values))
    return chance


def pair_rows(world: World, criterion: str, count: int, seed: int, part: str = "train") -> Iterator[Row]:
    """Yield pairs of different responses; the first is chosen with probability sigmoid(v₁ − v₂) (Bradley–Terry)."""
    chance = _uniform([seed, _stream(world, "pairs", criterion), PARTS.index(part)], count, 4)
    prompts, first, second = _draw_two(world, chance)
    preferred = _prefers(world.values[criterion], prompts, first, second, chance[:, 3])
    for prompt, one, other, is_first in zip(prompts, first, second, preferred, strict=True):
        chosen, rejected = (one, other) if is_first else (other, one)
        texts = {"chosen": world.responses[chosen], "rejected": world.responses[rejected]}
        yield {"prompt": world.prompts[prompt]} | texts


def label_rows(world: World, criterion: str, count: int, seed: int, part: str = "train") -> Iterator[Row]:
    """Yield single responses with labels: desirable with probability sigmoid(v)."""
    chance = _uniform([seed, _stream(world, "labels", criterion), PARTS.index(part)], count, 3)
    prompts, responses = _index(chance[:, 0], len(world.prompts)), _index(chance[:, 1], len(world.responses))
    labels = chance[:, 2] < chance_of(world.values[criterion])[prompts, responses]
    for prompt, response, label in zip(prompts, responses, labels, strict=True):
        yield {"prompt": world.prompts[prompt], "completion": world.responses[response], "label": bool(label)}


def sample_rows(world: World, count: int, seed: int, part: str = "train") -> Iterator[Row]:
    """Yield samples of the reference policy, all labelled desirable, for the base stage."""
    chance = _uniform([seed, 0, PARTS.index(part)], count, 2)
    prompts = _index(chance[:, 0], len(world.prompts))
    ends = np.exp(world.reference).cumsum(axis=-1)[prompts, :-1]  # the last end is 1 but for rounding
    responses = (chance[:, 1:] >= ends).sum(axis=-1)
    for prompt, response in zip(prompts, responses, strict=True):
        yield {"prompt": world.prompts[prompt], "completion": world.responses[response], "label": True}


def comparison_rows(world: World, count: int, seed: int, part: str = "train") -> Iterator[Row]:
    """Yield pairs with all labels of PKU-SafeRLHF: preferred by reward and by the first constraint, and safe or not.

    Each preference is Bradley–Terry; a response is safe with probability sigmoid(g), drawn for each row anew.
    """
    chance = _uniform([seed, 0, PARTS.index(part), 1], count, 7)
    prompts, first, second = _draw_two(world, chance)
    responses = (first, second)
    reward, constraint = list(world.values.values())[:2]
    better = _prefers(reward, prompts, first, second, chance[:, 3])
    safer = _prefers(constraint, prompts, first, second, chance[:, 4])
    safe = [chance[:, 5 + i] < chance_of(constraint)[prompts, responses[i]] for i in (0, 1)]
    for row, prompt in enumerate(prompts):
        labels = {"better_response_id": int(not better[row]), "safer_response_id": int(not safer[row])}
        for i in (0, 1):
            labels[f"response_{i}"] = world.responses[responses[i][row]]
            labels[f"is_response_{i}_safe"] = bool(safe[i][row])
        yield {"prompt": world.prompts[prompt]} | labels


def _draw_two(world: World, chance: Table) -> tuple[Indices, Indices, Indices]:
    """Return prompts and two different responses to each, from the first three columns."""
    size = len(world.responses)
    first = _index(chance[:, 1], size)
    return _index(chance[:, 0], len(world.prompts)), first, (first + 1 + _index(chance[:, 2], size - 1)) % size


def _prefers(values: Table, prompts: Indices, first: Indices, second: Indices, chance: Table) -> NDArray[np.bool_]:
    """Return whether each first response is preferred."""
    preferred: NDArray[np.bool_] = chance < chance_of(values[prompts, first] - values[prompts, second])
    return preferred


def _stream(world: World, form: str, criterion: str) -> int:
    """Return a number for each form and criterion, so that their draws are independent; 0 is that of samples.

    Criteria are numbered in twos, so that adding one does not change the streams of the others.
    """
    two, place = divmod(list(world.values).index(criterion), 2)
    return 1 + 4 * two + 2 * FORMS.index(form) + place


def _uniform(seed: list[int], rows: int, columns: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).random((rows, columns))


def _index(chance: NDArray[np.float64], size: int) -> Indices:
    """Convert numbers in [0, 1) to indices below `size`."""
    return (chance * size).astype(np.int64)
