"""TRL's trainers on views that are tokenised already, with the tokens that TRL would make; losses that TRL lacks."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import RandomSampler, Sampler, SequentialSampler
from transformers import Trainer
from trl import DPOTrainer, KTOTrainer, SFTTrainer

if TYPE_CHECKING:
    from datasets import Dataset

#: From rewards of shape (pairs,), chosen and rejected, and the settings of `stages.NAME.loss`, to losses of that shape.
PairLoss = Callable[[Tensor, Tensor, dict[str, Any]], Tensor]
#: Losses that TRL does not have, by the `loss_type` of their row in `method/losses.py`, which says `trainer="pair"`.
PAIR_LOSSES: dict[str, PairLoss] = {}


class StageTrainer(Trainer):  # type: ignore[misc]
    """Trains on whole batches only, and reports tokens and mean loss of all updates, also after a resume."""

    def _get_train_sampler(self, train_dataset: "Dataset | None" = None) -> Sampler[int]:
        """Leave out the rows at the end of each epoch's order that do not fill a global batch.

        Losses are averaged per device and pass, so an incomplete batch would give other weights for another division.
        """
        sampler = super()._get_train_sampler(train_dataset)
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        count = len(sampler) // batch * batch
        if isinstance(sampler, SequentialSampler):
            return SequentialSampler(range(count))
        return RandomSampler(sampler.data_source, num_samples=count)

    @property
    def _total_train_tokens(self) -> int:
        """TRL's count, kept in the state that checkpoints hold."""
        return int(self.state.num_input_tokens_seen)

    @_total_train_tokens.setter
    def _total_train_tokens(self, count: int) -> None:
        self.state.num_input_tokens_seen = count

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        """Log at every checkpoint, or a resume would lose the losses since the last line."""
        self.control.should_log |= self.control.should_save
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "train_loss" in logs:  # of the updates since the resume
            lines = [line for line in self.state.log_history if "loss" in line]
            steps = [line["step"] for line in lines]
            counts = [step - before for before, step in zip([0, *steps], steps, strict=False)]
            logs["train_loss"] = sum(line["loss"] * n for line, n in zip(lines, counts, strict=True)) / sum(counts)
        super().log(logs, start_time)


class TokenisedSFTTrainer(StageTrainer, SFTTrainer):  # type: ignore[misc]
    """Reads `input_ids` and `completion_mask` as they are."""


class PreferenceTrainer(StageTrainer):
    """Keeps the reference's log-probabilities in `reference/{train,eval}.arrow`, and reads them if they are there."""

    def __init__(self, *args: Any, reference: Path, **kwargs: Any) -> None:
        self.reference = reference
        super().__init__(*args, **kwargs)

    def _precompute_ref_logps(self, dataset: "Dataset", name: str, batch_size: int) -> "Dataset":
        from datasets import Dataset, concatenate_datasets

        if dataset._indices is not None:
            dataset = dataset.flatten_indices()  # or TRL would, into the file below
        file = str(self.reference / f"{name}.arrow")
        dataset._get_cache_file_path = lambda _: file  # TRL's would lie beside the rows
        super()._precompute_ref_logps(dataset, name, batch_size)
        # In memory, so that the file may be moved or removed while this trainer lives.
        return concatenate_datasets([dataset, Dataset.from_file(file, in_memory=True)], axis=1)


class TokenisedDPOTrainer(PreferenceTrainer, DPOTrainer):  # type: ignore[misc]
    """Reads `prompt_ids`, `chosen_ids` and `rejected_ids` as they are."""

    def _prepare_dataset(self, dataset: "Dataset", *args: Any, **kwargs: Any) -> "Dataset":
        return dataset


class TokenisedKTOTrainer(PreferenceTrainer, KTOTrainer):  # type: ignore[misc]
    """Reads `prompt_ids`, `completion_ids` and `label` as they are, and adds the completions of the KL estimate."""

    def _prepare_dataset(self, dataset: "Dataset", processing_class: Any, args: Any, dataset_name: str) -> "Dataset":
        if not self.calculate_KL:
            return dataset
        # Within a batch each prompt is paired with the completion before its own (Ethayarajh et al. 2024, section 4).
        size = args.per_device_train_batch_size
        return dataset.map(_rotate, batched=True, batch_size=size, desc=f"Pairing {dataset_name} rows for the KL")


def _rotate(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    completions = batch["completion_ids"]
    return {"KL_completion_ids": [completions[-1], *completions[:-1]]}


class PairTrainer(TokenisedDPOTrainer):
    """TRL's DPOTrainer with a loss of `PAIR_LOSSES`: its data, reference and schedule, and the metrics of rewards."""

    def __init__(self, *args: Any, pair_loss: PairLoss, settings: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pair_loss, self.settings = pair_loss, settings

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool) -> Any:
        chosen, rejected = self._find_rewards(model, inputs)
        loss = self.pair_loss(chosen, rejected, self.settings).mean()
        self._log_rewards(chosen.detach(), rejected.detach(), inputs)
        return (loss, None) if return_outputs else loss

    def _find_rewards(self, model: Any, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return β·log(π/π_ref), summed over the tokens of chosen and of rejected responses, of shape (pairs,)."""
        mask = inputs["completion_mask"]  # a batch holds all chosen responses first
        labels = inputs["input_ids"].masked_fill(mask == 0, -100)
        own = {"completion_mask", "ref_chosen_logps", "ref_rejected_logps"}
        passed = {name: value for name, value in inputs.items() if name not in own}
        outputs = model(**passed, labels=labels, use_cache=False, fused_lm_head=True)
        chosen, rejected = outputs.log_probs[:, 1 - mask.size(1) :].sum(dim=1).chunk(2)
        return self.beta * (chosen - inputs["ref_chosen_logps"]), self.beta * (rejected - inputs["ref_rejected_logps"])

    def _log_rewards(self, chosen: Tensor, rejected: Tensor, inputs: dict[str, Tensor]) -> None:
        metrics = self._metrics["train" if self.model.training else "eval"]
        values = {"chosen": chosen, "rejected": rejected, "margins": chosen - rejected}
        values["accuracies"] = (chosen > rejected).float()
        for name, value in values.items():
            metrics[f"rewards/{name}"].append(self.accelerator.gather_for_metrics(value).mean().item())
        if self.model.training:
            tokens: Any = self.accelerator.gather_for_metrics(inputs["attention_mask"].sum())
            self._total_train_tokens += int(torch.as_tensor(tokens).sum().item())
        metrics["num_tokens"] = [self._total_train_tokens]
