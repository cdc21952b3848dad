"""Settings of `multiplier`. Defaults are in conf/multiplier.yaml."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from omegaconf import MISSING

from sacpo_exp.config.bounds import bounded, count
from sacpo_exp.config.judges import RewardModelJudgeConfig, ScorerJudgeConfig
from sacpo_exp.config.schema import MergeMethod, RunConfig
from sacpo_exp.config.stages import aligned_stages


class ValuesKind(Enum):
    """Where the values of reward and constraint come from."""

    implicit = "implicit"  # β·log(policy/base) of the two policies that are each aligned for one criterion
    judge = "judge"  # scores of `judge`: a reward and a cost model, or the scorer


@dataclass
class MultiplierConfig(RunConfig):
    threshold: float = MISSING
    constraint: str = MISSING
    values: ValuesKind = MISSING
    samples: int = count(2)
    confidence: float = bounded(above=0, below=1)
    bootstrap_rounds: int = bounded(least=100, most=1_000_000)

    @property
    def reward(self) -> str:
        """The criterion that is not the constraint."""
        return next(name for name in aligned_stages(self) if name != self.constraint)


def find_multiplier_problems(config: MultiplierConfig) -> Iterator[str]:
    """Yield a sentence for each mistake in the settings of `multiplier`."""
    names = list(aligned_stages(config))
    if len(names) != 2 or config.merge != MergeMethod.naive:
        yield "multiplier needs two criteria, each with a policy of its own. Try: order=helpful_first merge=naive"
    elif config.constraint not in names:
        yield f"`constraint` must be one of the stages' criteria ({', '.join(names)}), but is {config.constraint}."
    if config.values == ValuesKind.judge:
        if not isinstance(config.judge, ScorerJudgeConfig | RewardModelJudgeConfig):
            yield f"`values=judge` needs scores, which judge={config.judge.name} does not give. Try: judge=reward_model"
        for name in {*names} - {*config.evaluated}:
            yield f"`values=judge` needs a judge for {name}. Try: evaluated=[{','.join(names)}]"
