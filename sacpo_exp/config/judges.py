"""Settings of each kind of judge; the values, and where they are from, are in conf/judge/."""

from dataclasses import dataclass, field
from enum import Enum

from omegaconf import MISSING

from sacpo_exp.config.bounds import bounded, count
from sacpo_exp.config.models import FloatType, ModelConfig
from sacpo_exp.config.schema import JudgeConfig, JudgeKind


class TokenLimit(Enum):
    """Name of the argument for the greatest number of tokens to write."""

    max_tokens = "max_tokens"
    max_completion_tokens = "max_completion_tokens"


class AskAgain(Enum):
    """States of an earlier answer that are no verdict."""

    unparsed = "unparsed"
    refused = "refused"
    failed = "failed"


class HeadForm(Enum):
    sequence_classification = "sequence_classification"  # AutoModelForSequenceClassification with one label
    score_head = "score_head"  # a causal language model's body and `score_head`, as beaver-7b's AutoModelForScore


class HigherIs(Enum):
    better = "better"  # a reward
    worse = "worse"  # a cost


@dataclass
class ScorerJudgeConfig(JudgeConfig):
    encoder: ModelConfig = MISSING
    layer: int = count()
    max_length: int = count()
    regularization: float = bounded(above=0)


@dataclass
class PriceConfig:
    """US dollars per million tokens; known where `input` and `output` are."""

    input: float | None = bounded(least=0, default=None)
    output: float | None = bounded(least=0, default=None)
    cached_input: float | None = bounded(least=0, default=None)  # null: as input


@dataclass
class PricesConfig:
    """A table of prices as published at a time; dated names of a model (`NAME-2026-03-17`) cost what `NAME` does."""

    read: str = MISSING
    source: str = MISSING
    models: dict[str, PriceConfig] = MISSING


@dataclass
class OpenAIJudgeConfig(JudgeConfig):
    model: str = MISSING
    base_url: str | None = None  # null: OPENAI_BASE_URL, or OpenAI's own
    api_key_env: str | None = None  # the name of the environment variable with the key; null: no key is sent
    template: str = MISSING
    repeats: int = count()
    temperature: float | None = bounded(least=0, most=2, default=None)
    max_tokens: int = count()
    token_limit: TokenLimit = MISSING
    seed: int | None = bounded(least=0, default=None)  # of the first repeat; the others count on from there
    reasoning_effort: str | None = None
    structured: bool = MISSING  # the server holds the answer to a JSON schema
    min_score: float = MISSING
    max_score: float = MISSING
    concurrency: int = count()
    timeout: float = bounded(above=0)  # seconds
    max_attempts: int = count()  # for errors that may pass
    max_failures: int = count()  # in a row; then the run stops
    ask_again: list[AskAgain] = MISSING
    budget_usd: float | None = bounded(above=0, default=None)
    max_calls: int | None = count(default=None)
    price: PriceConfig = field(default_factory=PriceConfig)  # where null, from the table
    prices: PricesConfig = MISSING


@dataclass
class HeadConfig:
    """A model that gives a dialogue one number, and what that number means."""

    model: ModelConfig = MISSING
    form: HeadForm = MISSING
    higher_is: HigherIs = MISSING


@dataclass
class RewardModelJudgeConfig(JudgeConfig):
    heads: dict[str, HeadConfig] = MISSING  # by criterion; one without a head is not judged
    dtype: FloatType = MISSING
    max_length: int = count()  # tokens of prompt and response together
    batch_size: int = count()


#: The class of each kind, for composing and for reading back.
JUDGES: dict[JudgeKind, type[JudgeConfig]] = {
    JudgeKind.none: JudgeConfig,
    JudgeKind.scorer: ScorerJudgeConfig,
    JudgeKind.openai: OpenAIJudgeConfig,
    JudgeKind.reward_model: RewardModelJudgeConfig,
}
