"""The losses of a stage, one row each. No other code compares the name of a loss.

A loss is *consistent* if its population minimiser is the KL-regularised optimum π ∝ π_ref · exp(r/β); only then do
Theorem 1 and Remark 2 of Wachi et al. (2024) hold for its stages. On Bradley-Terry pairs that is DPO's logistic loss;
the distances in nats below are KL(policy || optimum) after two stages, minimised in a table instead of a network.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum


class View(Enum):
    """The form of the data that a loss reads; names as in TRL's documentation."""

    responses = "responses"  # prompt, completion
    pairs = "pairs"  # prompt, chosen, rejected
    labels = "labels"  # prompt, completion, label


@dataclass(frozen=True)
class Loss:
    """What differs between losses.

    Attributes:
        name: in configurations and recipes.
        title: in tables and figures.
        view: form of the data.
        trainer: key of the trainer in `training.trl_adapter`, which passes `loss_type` to TRL.
        settings: settings of `stages.NAME.loss` that it reads, with their defaults; None is computed from the data.
        start: loss before the first update, where policy and reference are equal; None if it depends on β, on settings
            or on the rows.
        sequences: dialogues per row of the view.
        least_rows: least rows that a device must see at once.
        extra_forwards: forward passes beside those of the policy: once over all data, and again in every update.
        reads_micro_batch: whether the rows that share a pass on a device change the result.
        is_consistent: see above.
        reads_flags: whether it reads of each response of a pair whether it is acceptable.
        reads_guides: whether it reads the implicit rewards of the stages before it.
    """

    name: str
    title: str
    view: View
    trainer: str
    loss_type: str | None = None
    settings: Mapping[str, float | None] = field(default_factory=dict)
    start: float | None = None
    sequences: int = 1
    least_rows: int = 1
    extra_forwards: tuple[int, int] = (0, 0)
    reads_micro_batch: bool = False
    is_consistent: bool = False
    reads_flags: bool = False
    reads_guides: bool = False


def _dpo(
    name: str, title: str, loss_type: str, start: float | None = None, is_consistent: bool = False, **settings: float
) -> Loss:
    """A loss of TRL's DPOTrainer. The reference reads all data once, before training."""
    return Loss(
        name=name,
        title=title,
        view=View.pairs,
        trainer="dpo",
        loss_type=loss_type,
        settings=settings,
        start=start,
        sequences=2,
        extra_forwards=(1, 0),
        is_consistent=is_consistent,
    )


def _kto(name: str, title: str, loss_type: str, has_kl: bool) -> Loss:
    """A loss of TRL's KTOTrainer, whose KL is estimated with the completions of other prompts in the same pass.

    Defaults of the weights are those of the paper's code: 1, and n_desirable / n_undesirable of the training data.
    """
    return Loss(
        name=name,
        title=title,
        view=View.labels,
        trainer="kto",
        loss_type=loss_type,
        settings={"desirable_weight": 1.0, "undesirable_weight": None},
        least_rows=2 if has_kl else 1,
        extra_forwards=(2, 1) if has_kl else (1, 0),
        reads_micro_batch=has_kl,
    )


def _pair(name: str, title: str, start: float | None = None, reads_guides: bool = False, **settings: float) -> Loss:
    """A loss of `training.pair_losses`, on the data and the reference of DPO.

    Of guides' rewards it learns, as DPO does of labels, what is optimal for them; flags pull it elsewhere.
    """
    loss = _dpo(name, title, name, start, reads_guides, **settings)
    return replace(loss, trainer="pair", reads_flags=not reads_guides, reads_guides=reads_guides)


#: Names of TRL 1.16 and, for losses that are more than a name there, of their papers.
LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        # Cross-entropy on responses: supervised fine-tuning, for a stage without criterion.
        Loss("sft", "SFT", View.responses, "sft"),
        # Rafailov et al. 2023, equation 7; equation 6 of the SACPO paper.
        _dpo("dpo", "DPO", "sigmoid", start=math.log(2), is_consistent=True),
        # The same and supervised fine-tuning on the chosen response, L_DPO + w·L_SFT (Pang et al. 2024): it keeps
        # probability on the responses of the data, and moves the minimiser towards the chosen ones.
        _dpo("dpo_sft", "DPO+SFT", "sigmoid", sft_weight=0.1),
        # Jung et al. 2024, on labels of single responses: cross-entropy of β·log-ratio − δ. Exact if one δ fits all
        # prompts, so approximately consistent.
        Loss("bco", "BCO", View.labels, "label", start=math.log(2), extra_forwards=(1, 0)),
        # Ethayarajh et al. 2024; equation 7 of the SACPO paper. Linear in σ: 0.5 to 2.2 nats.
        _kto("kto", "KTO", "kto", has_kl=True),
        # Ji et al. 2024, equation 16, with the paper's label smoothing; 0.08 nats.
        _dpo("exo_pair", "EXO", "exo_pair", label_smoothing=1e-3),
        _dpo("hinge", "hinge", "hinge", start=1.0),  # Liu et al. 2024 (RSO), equation 10; 0.10 nats
        _dpo("bco_pair", "BCO-pair", "bco_pair", start=2 * math.log(2)),  # Jung et al. 2024; 0.25 to 0.66 nats
        _dpo("nca_pair", "NCA", "nca_pair", start=2 * math.log(2)),  # Chen et al. 2024; 0.4 nats
        # D'Oosterlinck et al. 2024, equation 7; 1.0 to 1.7 nats.
        _dpo("apo_zero", "APO-zero", "apo_zero", start=1.0),
        # Chowdhury et al. 2024: labels that were turned around with probability label_smoothing, 0.1 in the paper. On
        # labels that were not, 1.3 nats.
        _dpo("robust", "rDPO", "robust", start=math.log(2), label_smoothing=0.1),
        _dpo("sppo_hard", "SPPO", "sppo_hard"),  # Wu et al. 2024, equation 4.7; 1.4 nats
        # Azar et al. 2023, equation 17, of mean log-probabilities per token; 1.5 nats.
        _dpo("ipo", "IPO", "ipo"),
        # Kim et al. 2025 (SafeDPO), on `acceptable_only` pairs: a margin where the rejected response alone is unsafe.
        _pair("safedpo", "SafeDPO", delta=10.0),
        # Zhang et al. 2025 (BFPO): squared distance of h to a target made of the two labels of safety.
        _pair("bfpo", "BFPO", b1=3.0, alpha=0.5),
        # Nguyen et al. 2026 (BSO), on `acceptable_only` pairs: matching of density ratios, with scaled Basu divergence.
        _pair("bso", "BSO", penalty=30.0, power=0.2, scale=4.0),
        # Huang et al. 2024 (PeCAN): DPO on labels drawn by r + λ·g of the stages before it, in expectation.
        _pair("pecan", "PeCAN", start=math.log(2), reads_guides=True, multiplier=1.0),
        # D'Oosterlinck et al. 2024, without pairs and without the KL; linear in σ.
        _kto("apo_zero_unpaired", "APO-zero-unpaired", "apo_zero_unpaired", has_kl=False),
    )
}


#: Arguments of TRL's trainers with which no loss is consistent: they change what it compares, or weigh the pairs.
CHANGING = frozenset({"f_divergence_type", "ld_alpha", "use_weighting"})


def trained_losses() -> list[str]:
    """Names of the losses that a stage with a criterion can have."""
    return [name for name, loss in LOSSES.items() if loss.view != View.responses]
