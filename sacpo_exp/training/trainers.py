"""TRL's trainers on views that are tokenised already, with the tokens that TRL would make; losses that TRL lacks."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import RandomSampler, Sampler, SequentialSampler
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import ExportableState
from trl import DPOTrainer, KTOTrainer, SFTTrainer
from trl.trainer import dpo_trainer, kto_trainer

from sacpo_exp.training.pair_losses import PairLoss

if TYPE_CHECKING:
    from datasets import Dataset

#: Columns of a pair that losses read; booleans are 0 and 1. `guided` is Σ w·log-ratio of the guides, chosen − rejected.
COLUMNS = ("chosen_acceptable", "rejected_acceptable", "guided")
#: Updates over which δ of `LabelTrainer` runs.
WINDOW = 20


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

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Leave whole weights out of DeepSpeed's checkpoints, which are read from the shards beside them."""
        if not (_internal_call and self.is_deepspeed_enabled):
            super().save_model(output_dir, _internal_call)

    @property
    def _total_train_tokens(self) -> int:
        """TRL's count, kept in the state that checkpoints hold."""
        return int(self.state.num_input_tokens_seen)

    @_total_train_tokens.setter
    def _total_train_tokens(self, count: int) -> None:
        self.state.num_input_tokens_seen = count

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate without a trace in the random numbers of training, of which a data loader draws one."""
        with torch.random.fork_rng([self.args.device] if self.args.device.type == "cuda" else []):
            return dict(super().evaluate(*args, **kwargs))

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        """Log at every checkpoint, or a resume would lose the losses since the last line."""
        self.control.should_log |= self.control.should_save
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "train_loss" in logs:  # of the updates since the resume
            lines = [line for line in self.state.log_history if "loss" in line]
            updates = np.diff([line["step"] for line in lines], prepend=0)
            logs["train_loss"] = float(np.average([line["loss"] for line in lines], weights=updates))
        super().log(logs, start_time)


class TokenisedSFTTrainer(StageTrainer, SFTTrainer):  # type: ignore[misc]
    """Reads `input_ids` and `completion_mask` as they are."""


class PreferenceTrainer(StageTrainer):
    """Keeps the reference's log-probabilities in `reference/{train,eval}.arrow`, and reads them if they are there.

    `guides` are folders with such files of other policies, each with the weight of its log-ratio.
    """

    def __init__(self, *args: Any, reference: Path, guides: Mapping[Path, float], **kwargs: Any) -> None:
        self.reference, self.guides = reference, guides
        # TRL names its file of log-probabilities by a hash of all weights (two seconds per gigabyte); ours has a name.
        original = dpo_trainer.hash_module
        dpo_trainer.hash_module = kto_trainer.hash_module = lambda _: ""
        try:
            super().__init__(*args, **kwargs)
        finally:
            dpo_trainer.hash_module = kto_trainer.hash_module = original

    def _precompute_ref_logps(self, dataset: "Dataset", name: str, batch_size: int) -> "Dataset":
        from datasets import Dataset, concatenate_datasets

        if dataset._indices is not None:
            dataset = dataset.flatten_indices()  # or TRL would, into the file below
        file = str(self.reference / f"{name}.arrow")
        dataset._get_cache_file_path = lambda _: file  # TRL's would lie beside the rows
        super()._precompute_ref_logps(dataset, name, batch_size)
        # In memory, so that the file may be moved or removed while this trainer lives.
        scored = concatenate_datasets([dataset, Dataset.from_file(file, in_memory=True)], axis=1)
        if self.guides:
            guided = np.zeros(len(scored))
            for folder, weight in self.guides.items():
                guide = Dataset.from_file(str(folder / f"{name}.arrow"), in_memory=True)
                guided += weight * (find_margins(guide) - find_margins(scored))
            scored = scored.add_column("guided", guided)
        if "margin" in scored.column_names:  # −log σ(βh − m) is DPO with a reference that prefers the chosen more
            shifted = np.array(scored["ref_chosen_logps"]) + np.array(scored["margin"]) / self.args.beta
            scored = scored.remove_columns("ref_chosen_logps").add_column("ref_chosen_logps", shifted)
        return scored


def find_margins(rows: "Dataset") -> "np.ndarray[Any, Any]":
    """Return log π(chosen) − log π(rejected) of each row, of shape (rows,)."""
    margins: np.ndarray[Any, Any] = np.array(rows["ref_chosen_logps"]) - np.array(rows["ref_rejected_logps"])
    return margins


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
    """TRL's DPOTrainer with a loss of `pair_losses`: its data, reference and schedule, and the metrics of rewards."""

    def __init__(self, *args: Any, pair_loss: PairLoss, settings: dict[str, float], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pair_loss, self.settings = pair_loss, settings
        self.columns = [name for name in COLUMNS if name in self.train_dataset.column_names]
        self.data_collator: Any = partial(_add_columns, self.data_collator, self.columns)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns += [name for name in COLUMNS if name not in self._signature_columns]

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool) -> Any:
        references = torch.cat([inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]])
        chosen, rejected = (self.beta * (find_logps(model, inputs) - references)).chunk(2)
        loss = self.pair_loss(chosen, rejected, {name: inputs[name] for name in self.columns}, self.settings).mean()
        values = {"chosen": chosen, "rejected": rejected, "margins": chosen - rejected}
        values["accuracies"] = (chosen > rejected).float()
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, value in values.items():
            metrics[f"rewards/{name}"].append(self.accelerator.gather_for_metrics(value.detach()).mean().item())
        count_tokens(self, inputs)
        return (loss, None) if return_outputs else loss


def _add_columns(collate: Any, columns: Sequence[str], rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Return TRL's batch of these rows with further columns of numbers."""
    return dict(collate(rows)) | {name: torch.tensor([float(row[name]) for row in rows]) for name in columns}


class LabelTrainer(TokenisedKTOTrainer):
    """TRL's KTOTrainer with Binary Classifier Optimization (Jung et al. 2024, arXiv 2404.04656), which TRL has removed.

    The loss is the cross-entropy of σ(β·log(π/π_ref) − δ) and the label. δ is the mean of the mean rewards of desirable
    and of undesirable completions, running over about the last `WINDOW` updates. Classes are not weighted.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.shift = Shift()
        self.add_callback(self.shift)

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool) -> Any:
        labels = inputs["label"].float()
        rewards = self.beta * (find_logps(model, inputs) - inputs["ref_logps"])
        gathered, classes = self.accelerator.gather_for_metrics((rewards.detach(), labels))
        if self.model.training:
            self.shift.add(gathered, classes)
        loss = binary_cross_entropy_with_logits(rewards - self.shift.delta, labels)
        metrics = self._metrics["train" if self.model.training else "eval"]
        means = {name: gathered[classes == i].mean() for name, i in (("chosen", 1), ("rejected", 0)) if i in classes}
        if len(means) == 2:
            means["margins"] = means["chosen"] - means["rejected"]
        for name, value in means.items():
            metrics[f"rewards/{name}"].append(value.item())
        metrics["delta"].append(self.shift.delta)
        count_tokens(self, inputs)
        return (loss, None) if return_outputs else loss


class Shift(TrainerCallback, ExportableState):  # type: ignore[misc]
    """δ of `LabelTrainer`, kept in checkpoints: sum and number of the rewards of each label, fading with updates."""

    def __init__(self) -> None:
        self.sums, self.counts = [0.0, 0.0], [0.0, 0.0]

    def add(self, rewards: Tensor, labels: Tensor) -> None:
        """Take in the rewards and labels of a pass of all ranks."""
        for i in (0, 1):
            chosen = rewards[labels == i].double()
            self.sums[i] += float(chosen.sum())
            self.counts[i] += len(chosen)

    @property
    def delta(self) -> float:
        """Mean of the two class means; of one class alone its mean, and 0 before any reward."""
        means = [total / count for total, count in zip(self.sums, self.counts, strict=True) if count]
        return sum(means) / len(means) if means else 0.0

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"sums": self.sums, "counts": self.counts}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if stored := state.stateful_callbacks.get(type(self).__name__):
            self.sums, self.counts = stored["attributes"]["sums"], stored["attributes"]["counts"]

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        fading = 1 - 1 / WINDOW
        self.sums, self.counts = [fading * total for total in self.sums], [fading * count for count in self.counts]


def find_logps(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """Return log π of each row's completion, summed over its tokens, of shape (rows,)."""
    mask = inputs["completion_mask"]
    read = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
    labels = inputs["input_ids"].masked_fill(mask == 0, -100)
    outputs = model(**read, labels=labels, use_cache=False, fused_lm_head=True)
    logps: Tensor = outputs.log_probs[:, 1 - mask.size(1) :].sum(dim=1)
    return logps


def count_tokens(trainer: Any, inputs: dict[str, Tensor]) -> None:
    """Add the tokens of a training batch of all ranks to the trainer's count."""
    is_training = trainer.model.training
    if is_training:
        tokens = trainer.accelerator.gather_for_metrics(inputs["attention_mask"].sum())
        trainer._total_train_tokens += int(torch.as_tensor(tokens).sum().item())
    trainer._metrics["train" if is_training else "eval"]["num_tokens"] = [trainer._total_train_tokens]
