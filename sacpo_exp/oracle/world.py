"""A world of finitely many prompts and responses whose reward, safety and reference policy are known. Pure, seeded."""

import itertools
from dataclasses import dataclass

import numpy as np

from sacpo_exp.config.oracle import Order, WorldConfig
from sacpo_exp.config.schema import Criterion
from sacpo_exp.method.theory import Table, divergence, expect, merge, normalise, tilt, tilt_stepwise

#: Letters that responses are spelled with; short ones share beginnings, so that end marks count.
LETTERS = "abc"


@dataclass(frozen=True)
class World:
    """What is true of every prompt and response.

    Attributes:
        prompts, responses: their texts; every prompt has the same responses.
        reference: the policy that alignment starts from and stays close to; log-probabilities, (prompts, responses).
        values: reward r (`helpfulness`) and safety g (`safety`), in nats at β = 1, (prompts, responses).
    """

    prompts: tuple[str, ...]
    responses: tuple[str, ...]
    reference: Table
    values: dict[Criterion, Table]

    @property
    def reward(self) -> Table:
        return self.values[Criterion.helpfulness]

    @property
    def safety(self) -> Table:
        return self.values[Criterion.safety]


@dataclass(frozen=True)
class Outcome:
    """A policy's exact figures.

    Attributes:
        reward, safety: E[r] and E[g].
        safe_rate: chance that a judge who calls a response safe with probability sigmoid(g) does so.
        divergence: KL(policy ‖ reference) in nats.
    """

    reward: float
    safety: float
    safe_rate: float
    divergence: float


def make_world(config: WorldConfig) -> World:
    """A world by seed. Over the responses of a prompt r and g have mean 0, standard deviation `scale` and exactly the
    `correlation`; below zero they pull apart, as helpfulness and harmlessness do.
    """
    chance = np.random.default_rng(config.seed)
    shape = (config.prompts, config.responses)
    reference = normalise(config.spread * chance.standard_normal(shape))
    reward = _standardise(chance.standard_normal(shape))
    other = _standardise(chance.standard_normal(shape))
    other = _standardise(other - reward * (reward * other).mean(axis=-1, keepdims=True))
    safety = config.correlation * reward + np.sqrt(1 - config.correlation**2) * other
    values = {Criterion.helpfulness: config.scale * reward, Criterion.safety: config.scale * safety}
    return World(tuple(map(str, range(config.prompts))), spell_responses(config.responses), reference, values)


def _standardise(values: Table) -> Table:
    centred = values - values.mean(axis=-1, keepdims=True)
    standardised: Table = centred / centred.std(axis=-1, keepdims=True)
    return standardised


def spell_responses(count: int) -> tuple[str, ...]:
    """The shortest texts over `LETTERS`: a, b, c, aa, ab, …"""
    texts = ("".join(letters) for size in itertools.count(1) for letters in itertools.product(LETTERS, repeat=size))
    return tuple(itertools.islice(texts, count))


def optimum(world: World, beta: float, multiplier: float) -> Table:
    """π* ∝ π_ref · exp((r + λ·g)/β)."""
    return tilt(world.reference, world.reward + multiplier * world.safety, beta)


def stages_of(order: Order, beta: float, multiplier: float) -> list[tuple[Criterion, float]]:
    """Criterion and KL strength of the two stages: β for the reward, β/λ for safety, whichever comes first."""
    stages = [(Criterion.helpfulness, beta), (Criterion.safety, beta / multiplier)]
    return stages if order == Order.helpful_first else stages[::-1]


def align(world: World, beta: float, multiplier: float, order: Order) -> tuple[Table, Table]:
    """The exact policies after the first and after the second stage of an order (Theorem 1, Remark 2)."""
    first, second = ((world.values[criterion], strength) for criterion, strength in stages_of(order, beta, multiplier))
    return tilt_stepwise(world.reference, [first]), tilt_stepwise(world.reference, [first, second])


def merged(world: World, beta: float, multiplier: float, ratio: float, order: Order = Order.helpful_first) -> Table:
    """P-SACPO's exact policy, of weight q = `ratio` for the second stage's.

    The optimum for qλ with helpfulness first; with safety first that for β/q and λ/q.
    """
    return merge(*align(world, beta, multiplier, order), ratio)


def measure(world: World, policy: Table) -> Outcome:
    """Exact reward, safety and divergence of any policy over the world's responses."""
    return Outcome(
        reward=expect(policy, world.reward),
        safety=expect(policy, world.safety),
        safe_rate=expect(policy, chance_of(world.safety)),
        divergence=divergence(policy, world.reference),
    )


def chance_of(values: Table) -> Table:
    """Probability that a response of each value is labelled desirable: sigmoid(values)."""
    chance: Table = 1 / (1 + np.exp(-values))
    return chance
