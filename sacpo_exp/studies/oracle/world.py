"""A world of finitely many prompts and responses whose criteria and reference policy are known. Pure, seeded."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sacpo_exp.config.studies import WorldConfig
from sacpo_exp.method.theory import Table, find_strengths, merge, normalise, tilt, tilt_stepwise

#: Letters that responses are spelled with; short ones share beginnings, so that end marks count.
LETTERS = "abc"


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
