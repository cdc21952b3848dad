"""Rows of the table of losses against TRL's configurations, its trainers' code and arithmetic by hand."""

from typing import Any

import numpy as np
import pytest
from paper_losses import BY_HAND, sigmoid, softplus
from trl import DPOConfig, KTOConfig

from sacpo_exp.method.losses import LOSSES, View, trained_losses
from sacpo_exp.method.theory import divergence, normalise, tilt

PAIRED = [LOSSES[name] for name in BY_HAND]
UNPAIRED = [loss for loss in LOSSES.values() if loss.view == View.labels]


def test_a_loss_is_found_by_its_own_name_and_titles_differ() -> None:
    assert [loss.name for loss in LOSSES.values()] == list(LOSSES)
    assert len({loss.title for loss in LOSSES.values()}) == len(LOSSES)
    assert trained_losses() == [name for name in LOSSES if name != "sft"]
    assert LOSSES["sft"].view == View.responses


@pytest.mark.parametrize("loss", [*PAIRED, LOSSES["kto"]], ids=lambda loss: loss.name)
def test_settings_are_arguments_of_trl(loss: Any) -> None:
    fields = (DPOConfig if loss.trainer == "dpo" else KTOConfig).__dataclass_fields__
    assert loss.settings.keys() <= fields.keys()


@pytest.mark.parametrize("loss", PAIRED, ids=lambda loss: loss.name)
def test_the_loss_before_the_first_update_is_known_where_it_is_the_same_for_every_beta(loss: Any) -> None:
    starts = [float(BY_HAND[loss.name](beta, 0.0, 0.0)) for beta in (0.05, 0.1, 0.5)]
    settings = [value for value in loss.settings.values() if loss.name != "robust"]  # of rDPO it cancels
    if len(set(starts)) == 1 and not settings:
        assert loss.start == pytest.approx(starts[0])
    else:
        assert loss.start is None


REWARD = np.array([[0.0, 1.0, -0.5, 2.0], [0.3, -1.0, 0.8, 0.0]])
REFERENCE = normalise(np.array([[0.2, -0.3, 0.0, -1.0], [0.0, 0.5, -0.5, 0.1]]))
BETA = 0.5


def population_minimiser(name: str) -> Any:
    """The policy over four responses that minimises the expected loss on Bradley-Terry pairs of the reference."""
    from scipy.optimize import minimize

    pairs = [(i, j) for i in range(REWARD.shape[1]) for j in range(REWARD.shape[1]) if i != j]
    chosen, rejected = (np.array(side) for side in zip(*pairs, strict=True))
    weights = np.exp(REFERENCE[:, chosen] + REFERENCE[:, rejected])
    weights = weights * sigmoid(REWARD[:, chosen] - REWARD[:, rejected])

    def expected(logits: Any) -> float:
        ratios = normalise(logits.reshape(REWARD.shape)) - REFERENCE
        return float((weights * BY_HAND[name](BETA, ratios[:, chosen], ratios[:, rejected])).sum())

    found = minimize(expected, REFERENCE.ravel(), method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-15})
    return normalise(found.x.reshape(REWARD.shape))


@pytest.mark.parametrize("loss", PAIRED, ids=lambda loss: loss.name)
def test_a_loss_is_consistent_if_its_population_minimiser_is_the_regularised_optimum(loss: Any) -> None:
    distance = divergence(population_minimiser(loss.name), tilt(REFERENCE, REWARD, BETA))
    assert loss.is_consistent == (distance < 1e-5), distance


def test_losses_linear_in_sigma_start_where_the_labels_say_and_are_not_consistent() -> None:
    """At the minimum of KTO's value each ratio is at an end, whatever the reward (see the module)."""
    assert {loss.start for loss in UNPAIRED if loss.trainer == "kto"} == {None}
    assert not any(loss.is_consistent for loss in UNPAIRED)


def test_bco_comes_nearer_to_the_optimum_than_its_reference_but_does_not_reach_it() -> None:
    """The mean of the class means stands for −β·log Z of every prompt, which it is only by chance."""
    from scipy.optimize import minimize

    optimum, policy, label = tilt(REFERENCE, REWARD, BETA), REFERENCE, sigmoid(REWARD)
    for _ in range(100):  # δ moves with the policy, and has no gradient
        rewards = BETA * (policy - REFERENCE)
        shares = [np.exp(REFERENCE) * part for part in (label, 1 - label)]
        delta = sum((share * rewards).sum() / share.sum() for share in shares) / 2

        def expected(logits: Any, delta: float = delta) -> float:
            x = BETA * (normalise(logits.reshape(REWARD.shape)) - REFERENCE) - delta
            return float((np.exp(REFERENCE) * (label * softplus(-x) + (1 - label) * softplus(x))).sum())

        found = minimize(expected, policy.ravel(), method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-15})
        policy = normalise(found.x.reshape(REWARD.shape))
    assert 0.01 < divergence(policy, optimum) < divergence(REFERENCE, optimum) / 2


@pytest.mark.parametrize("name", ["robust", "kto", "bso"])
def test_a_loss_fills_in_its_own_defaults(configure: Any, name: str) -> None:
    stage = configure("criterion=[helpfulness,mixed]", f"losses=[dpo,{name}]").stages["mixed"]
    filled = {key: value for key, value in vars(stage.loss).items() if value is not None and key != "name"}
    assert filled == {key: value for key, value in LOSSES[name].settings.items() if value is not None} != {}
