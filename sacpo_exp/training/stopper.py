"""Ends training after the update in which it is asked to, with a checkpoint; all ranks at the same one."""

from typing import TYPE_CHECKING, Any

from sacpo_exp.stopping import Stop

if TYPE_CHECKING:
    from transformers import TrainerCallback


def training_stopper(stop: Stop) -> "TrainerCallback":
    """A callback that asks `stop` after every update."""
    from transformers import TrainerCallback

    class TrainingStopper(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            stop.set_training(True)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if any_rank(stop.is_asked(), args.device):
                control.should_save = control.should_training_stop = True

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            stop.set_training(False)

    return TrainingStopper()


def any_rank(is_asked: bool, device: Any) -> bool:
    """Whether any rank of the group says so: a rank that ended alone would leave the others waiting for it."""
    import torch
    from torch import distributed

    if not distributed.is_initialized():
        return is_asked
    asked = torch.tensor(int(is_asked), device=device)
    distributed.all_reduce(asked, op=distributed.ReduceOp.MAX)
    return bool(asked.item())
