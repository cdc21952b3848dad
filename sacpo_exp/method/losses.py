"""The losses of a stage, one row each. No other code compares the name of a loss.

A loss is *consistent* if its population minimiser is the KL-regularised optimum π ∝ π_ref · exp(r/β); only then do
Theorem 1 and Remark 2 of Wachi et al. (2024) hold for its stages. On Bradley-Terry pairs that is DPO's logistic loss;
the distances in nats below are KL(policy || optimum) after two stages, minimised in a table instead of a network.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial


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
        trainer: key of the trainer in `training.trl_adapter`.
        loss_type: name in TRL, if it is another one there.
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
    loss_type: str = ""
    settings: Mapping[str, float | None] = field(default_factory=dict)
    start: float | None = None
    sequences: int = 1
    least_rows: int = 1
    extra_forwards: tuple[int, int] = (0, 0)
    reads_micro_batch: bool = False
    is_consistent: bool = False
    reads_flags: bool = False
    reads_guides: bool = False


#: A loss of TRL's DPOTrainer. The reference reads all data once, before training.
_dpo = partial(Loss, view=View.pairs, trainer="dpo", sequences=2, extra_forwards=(1, 0))
#: A loss of `training.pair_losses`, on the data and the reference of DPO. Flags pull it away from the optimum; of the
#: rewards of guides it learns, as DPO does of labels, what is optimal for them.
_pair = partial(_dpo, trainer="pair")
#: A loss of TRL's KTOTrainer. The defaults of the weights are those of the paper's code: 1, and n_desirable /
#: n_undesirable of the training data.
_kto = partial(Loss, view=View.labels, trainer="kto", settings={"desirable_weight": 1.0, "undesirable_weight": None})

#: Names of TRL 1.16 and, for losses that are more than a name there, of their papers.
LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        # Cross-entropy on responses: supervised fine-tuning, for a stage without criterion.
        Loss("sft", "SFT", View.responses, "sft"),
        # Rafailov et al. 2023, equation 7; equation 6 of the SACPO paper.
        _dpo("dpo", "DPO", loss_type="sigmoid", start=math.log(2), is_consistent=True),
        # The same and supervised fine-tuning on the chosen response, L_DPO + w·L_SFT (Pang et al. 2024): it keeps
        # probability on the responses of the data, and moves the minimiser towards the chosen ones.
        _dpo("dpo_sft", "DPO+SFT", loss_type="sigmoid", settings={"sft_weight": 0.1}),
        # Jung et al. 2024, on labels of single responses: cross-entropy of β·log-ratio − δ. Exact if one δ fits all
        # prompts, so approximately consistent.
        Loss("bco", "BCO", View.labels, "label", start=math.log(2), extra_forwards=(1, 0)),
        # Ethayarajh et al. 2024; equation 7 of the SACPO paper. Linear in σ: 0.5 to 2.2 nats. Its KL is estimated with
        # the completions of other prompts in the same pass.
        _kto("kto", "KTO", least_rows=2, extra_forwards=(2, 1), reads_micro_batch=True),
        # Ji et al. 2024, equation 16, with the paper's label smoothing; 0.08 nats.
        _dpo("exo_pair", "EXO", settings={"label_smoothing": 1e-3}),
        _dpo("hinge", "hinge", start=1.0),  # Liu et al. 2024 (RSO), equation 10; 0.10 nats
        _dpo("bco_pair", "BCO-pair", start=2 * math.log(2)),  # Jung et al. 2024; 0.25 to 0.66 nats
        _dpo("nca_pair", "NCA", start=2 * math.log(2)),  # Chen et al. 2024; 0.4 nats
        _dpo("apo_zero", "APO-zero", start=1.0),  # D'Oosterlinck et al. 2024, equation 7; 1.0 to 1.7 nats
        # Chowdhury et al. 2024: labels that were turned around with probability label_smoothing, 0.1 in the paper. On
        # labels that were not, 1.3 nats.
        _dpo("robust", "rDPO", start=math.log(2), settings={"label_smoothing": 0.1}),
        _dpo("sppo_hard", "SPPO"),  # Wu et al. 2024, equation 4.7; 1.4 nats
        _dpo("ipo", "IPO"),  # Azar et al. 2023, equation 17, of mean log-probabilities per token; 1.5 nats
        # Kim et al. 2025 (SafeDPO), on `acceptable_only` pairs: a margin where the rejected response alone is unsafe.
        _pair("safedpo", "SafeDPO", settings={"delta": 10.0}, reads_flags=True),
        # Zhang et al. 2025 (BFPO): squared distance of h to a target made of the two labels of safety.
        _pair("bfpo", "BFPO", settings={"b1": 3.0, "alpha": 0.5}, reads_flags=True),
        # Nguyen et al. 2026 (BSO), on `acceptable_only` pairs: matching of density ratios, with scaled Basu divergence.
        _pair("bso", "BSO", settings={"penalty": 30.0, "power": 0.2, "scale": 4.0}, reads_flags=True),
        # Huang et al. 2024 (PeCAN): DPO on labels drawn by r + λ·g of the stages before it, in expectation.
        _pair("pecan", "PeCAN", settings={"multiplier": 1.0}, start=math.log(2), is_consistent=True, reads_guides=True),
        # D'Oosterlinck et al. 2024, without pairs and without the KL; linear in σ.
        _kto("apo_zero_unpaired", "APO-zero-unpaired", extra_forwards=(1, 0)),
    )
}

#: The loss whose data are pairs and nothing more: held-out pairs are prepared as for it.
PAIRS_LOSS = "dpo"
#: Arguments of TRL's trainers with which no loss is consistent: they change what it compares, or weigh the pairs.
CHANGING = frozenset({"f_divergence_type", "ld_alpha", "use_weighting"})


def trained_losses() -> list[str]:
    """Names of the losses that a stage with a criterion can have."""
    return [name for name, loss in LOSSES.items() if loss.view != View.responses]
