"""Losses on pairs that TRL does not have: functions of the implicit rewards of the chosen and the rejected response.

A reward is β·log(π/π_ref), summed over the tokens of the response. A loss here is a row of `method/losses.py` with
`trainer="pair"`, whose `loss_type` is its name in `PAIR_LOSSES`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sacpo_exp.training.tokenised import TokenisedDPOTrainer

#: From rewards of shape (pairs,), chosen and rejected, and the settings of `stages.NAME.loss`, to losses of that shape.
PairLoss = Callable[[Tensor, Tensor, dict[str, Any]], Tensor]
PAIR_LOSSES: dict[str, PairLoss] = {}


class PairTrainer(TokenisedDPOTrainer):
    """TRL's DPOTrainer with a loss of `PAIR_LOSSES`: its data, reference and schedule, and the metrics of rewards."""

    def __init__(self, *args: Any, pair_loss: PairLoss, settings: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pair_loss, self.settings = pair_loss, settings

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool) -> Any:
        chosen, rejected = self._find_rewards(model, inputs)
        loss = self.pair_loss(chosen, rejected, self.settings).mean()
        self._note_metrics(chosen.detach(), rejected.detach(), inputs)
        return (loss, None) if return_outputs else loss

    def _find_rewards(self, model: Any, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """β·log(π/π_ref) of chosen and rejected responses, shape (pairs,); a batch holds all chosen ones first."""
        mask = inputs["completion_mask"]
        labels = inputs["input_ids"].masked_fill(mask == 0, -100)
        own = {"completion_mask", "ref_chosen_logps", "ref_rejected_logps"}
        passed = {name: value for name, value in inputs.items() if name not in own}
        outputs = model(**passed, labels=labels, use_cache=False, fused_lm_head=True)
        chosen, rejected = outputs.log_probs[:, 1 - mask.size(1) :].sum(dim=1).chunk(2)
        return self.beta * (chosen - inputs["ref_chosen_logps"]), self.beta * (rejected - inputs["ref_rejected_logps"])

    def _note_metrics(self, chosen: Tensor, rejected: Tensor, inputs: dict[str, Tensor]) -> None:
        metrics = self._metrics["train" if self.model.training else "eval"]
        values = {"chosen": chosen, "rejected": rejected, "margins": chosen - rejected}
        values["accuracies"] = (chosen > rejected).float()
        for name, value in values.items():
            metrics[f"rewards/{name}"].append(self.accelerator.gather_for_metrics(value).mean().item())
        if self.model.training:
            tokens: Any = self.accelerator.gather_for_metrics(inputs["attention_mask"].sum())
            self._total_train_tokens += int(torch.as_tensor(tokens).sum().item())
        metrics["num_tokens"] = [self._total_train_tokens]
