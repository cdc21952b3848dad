"""The world with a known optimum: its size, and what is trained in it."""

from dataclasses import dataclass
from enum import Enum

from omegaconf import MISSING


class Order(Enum):
    """Which criterion comes first; the names of conf/order."""

    helpful_first = "helpful_first"
    safety_first = "safety_first"


@dataclass
class WorldConfig:
    """Size and shape of a world, see `sacpo_exp.oracle.world.make_world`."""

    prompts: int = MISSING
    responses: int = MISSING
    scale: float = MISSING  # standard deviation of reward and of safety over the responses of a prompt
    correlation: float = MISSING  # of the two
    spread: float = MISSING  # standard deviation of the reference policy's logits
    seed: int = MISSING
