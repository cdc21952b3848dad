"""TRL's preference trainers on views that are tokenised already; the tokens are those that TRL would make."""

from typing import TYPE_CHECKING, Any

from trl import DPOTrainer, KTOTrainer

if TYPE_CHECKING:
    from datasets import Dataset


class TokenisedDPOTrainer(DPOTrainer):  # type: ignore[misc]
    """Reads `prompt_ids`, `chosen_ids` and `rejected_ids` as they are."""

    def _prepare_dataset(self, dataset: "Dataset", *args: Any, **kwargs: Any) -> "Dataset":
        return dataset


class TokenisedKTOTrainer(KTOTrainer):  # type: ignore[misc]
    """Reads `prompt_ids`, `completion_ids` and `label` as they are, and adds the completions of the KL estimate."""

    def _prepare_dataset(self, dataset: "Dataset", processing_class: Any, args: Any, dataset_name: str) -> "Dataset":
        if not self.calculate_KL:
            return dataset
        # Within a batch each prompt is paired with the completion before its own (Ethayarajh et al. 2024, section 4).
        size = args.per_device_train_batch_size
        return dataset.map(_rotate, batched=True, batch_size=size, desc=f"Pairing {dataset_name} rows for the KL")


def _rotate(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    said = batch["completion_ids"]
    return {"KL_completion_ids": [said[-1], *said[:-1]]}
