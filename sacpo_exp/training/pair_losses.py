"""Losses on pairs that TRL does not have, each by the `loss_type` of its row in `method/losses.py`.

They get β·log(π/π_ref) of the chosen and of the rejected responses, columns of the batch, all of shape (pairs,), and
the settings of `stages.NAME.loss` with `beta`; they return losses of that shape. h is the difference of the log-ratios.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

PairLoss = Callable[[Tensor, Tensor, Mapping[str, Tensor], Mapping[str, float]], Tensor]


def safedpo(chosen: Tensor, rejected: Tensor, columns: Mapping[str, Tensor], settings: Mapping[str, float]) -> Tensor:
    """Return −log σ(βh − (u_l − u_w)·Δ), u = 1 for an unsafe response (Kim et al. 2025, arXiv 2505.20065)."""
    unsafe = columns["chosen_acceptable"] - columns["rejected_acceptable"]
    return -logsigmoid(chosen - rejected - settings["delta"] * unsafe)


def bfpo(chosen: Tensor, rejected: Tensor, columns: Mapping[str, Tensor], settings: Mapping[str, float]) -> Tensor:
    """Return (h − (b₁b₃s_w − b₃s_l − α)/β)² with b₃ = 1/(b₁ − 1), s = 1 for a safe response (arXiv 2408.15313).

    Zhang et al. 2025 also replay safe rows of another data set, which is not done here.
    """
    b1, beta = settings["b1"], settings["beta"]
    target = (b1 * columns["chosen_acceptable"] - columns["rejected_acceptable"]) / (b1 - 1) - settings["alpha"]
    return ((chosen - rejected - target) / beta) ** 2


def bso(chosen: Tensor, rejected: Tensor, columns: Mapping[str, Tensor], settings: Mapping[str, float]) -> Tensor:
    """Return [λR^(1+λ) − (1+λ)R^(−λ) + 1] / (sλ(λ+1)) with log R = −(βh − C·(u_l − u_w)), u = 1 for an unsafe response.

    It is f'(R)·R − f(R) − f'(1/R) of the scaled Basu power divergence f (Nguyen et al. 2026, arXiv 2605.12339). As in
    another package's port of the authors' code, log R stays within ±30, above up to C + 10 where float32 holds that.
    """
    power = settings["power"]
    unsafe = columns["chosen_acceptable"] - columns["rejected_acceptable"]
    highest = max(30.0, min(settings["penalty"] + 10, math.floor(85 / (1 + power))))
    log_ratio = (settings["penalty"] * unsafe - (chosen - rejected)).float().clamp(-30, highest)
    loss = power * torch.exp((1 + power) * log_ratio) - (1 + power) * torch.exp(-power * log_ratio) + 1
    return loss / (settings["scale"] * power * (1 + power))


def pecan(chosen: Tensor, rejected: Tensor, columns: Mapping[str, Tensor], _: Mapping[str, float]) -> Tensor:
    """Return −p·log σ(βh) − (1 − p)·log σ(−βh) with p = σ(Δr + λ·Δg), of the implicit rewards of the stages before.

    It is what DPO's loss is on average if the preferred response is drawn by the model of Bradley and Terry (Huang et
    al. 2024, PeCAN, arXiv 2405.19544).
    """
    share = torch.sigmoid(columns["guided"])
    return -share * logsigmoid(chosen - rejected) - (1 - share) * logsigmoid(rejected - chosen)


PAIR_LOSSES: dict[str, PairLoss] = {"safedpo": safedpo, "bfpo": bfpo, "bso": bso, "pecan": pecan}
