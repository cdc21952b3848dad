"""Losses of preference pairs as their papers write them, for comparison with TRL's and with the table of losses."""

from collections.abc import Callable
from typing import Any

import numpy as np


def softplus(x: Any) -> Any:
    """−log σ(−x)."""
    return np.logaddexp(0, x)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def exo(margin: Any, smoothing: float) -> Any:
    """KL of (σ(margin), σ(−margin)) to (1 − ε, ε)."""
    p, q = sigmoid(margin), sigmoid(-margin)
    return p * np.log(p / (1 - smoothing)) + q * np.log(q / smoothing)


#: Functions of β and of the log-ratios log π/π_ref of the chosen and the rejected response.
BY_HAND: dict[str, Callable[[float, Any, Any], Any]] = {
    "dpo": lambda b, c, r: softplus(-b * (c - r)),
    "hinge": lambda b, c, r: np.maximum(0, 1 - b * (c - r)),
    "bco_pair": lambda b, c, r: softplus(-b * c) + softplus(b * r),
    "nca_pair": lambda b, c, r: softplus(-b * c) + (softplus(b * c) + softplus(b * r)) / 2,
    "apo_zero": lambda b, c, r: sigmoid(-b * c) + sigmoid(b * r),
    "robust": lambda b, c, r: (0.9 * softplus(-b * (c - r)) - 0.1 * softplus(b * (c - r))) / 0.8,
    "exo_pair": lambda b, c, r: exo(b * (c - r), 1e-3),
    "sppo_hard": lambda b, c, r: (c - 0.5 / b) ** 2 + (r + 0.5 / b) ** 2,
    "ipo": lambda b, c, r: (c - r - 0.5 / b) ** 2,  # in TRL of ratios per token
}
