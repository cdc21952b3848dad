"""transformers' own callbacks, which name curves as everybody knows them, kept from all that names this machine."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sacpo_exp.tracking.interface import Tracker, Tracking

if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback

#: transformers' name of the callback that `report_to` adds.
CALLBACKS = {"wandb": "WandbCallback", "mlflow": "MLflowCallback", "trackio": "TrackioCallback"}


class Nameless:
    """Arguments or a model without the settings that callbacks send, which are full of this machine's paths."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.config = self.peft_config = None

    def to_dict(self) -> dict[str, Any]:
        return {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def attach(trainer: "Trainer", tracking: Tracking) -> None:
    """Put a guard around each callback that `report_to` has given the trainer."""
    import transformers.integrations as integrations

    callbacks = trainer.callback_handler.callbacks
    for name in tracking.names:
        kind, tracker = getattr(integrations, CALLBACKS[name]), tracking.find(name)
        for place, callback in enumerate(callbacks):
            if tracker is not None and isinstance(callback, kind):
                tracker.adopt(callback)
                callbacks[place] = _guarded(callback, tracker, tracking)


def _guarded(callback: Any, tracker: Tracker, tracking: Tracking) -> "TrainerCallback":
    from transformers import TrainerCallback

    class GuardedCallback(TrainerCallback):  # type: ignore[misc]
        """Logs, and no more: uploads and the end of the run are `tracker`'s."""

        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            self._do(lambda: callback.on_train_begin(Nameless(args), state, control, model=Nameless(model)))

        def on_log(self, args: Any, state: Any, control: Any, model: Any = None, logs: Any = None, **_: Any) -> None:
            self._do(lambda: callback.on_log(Nameless(args), state, control, model=Nameless(model), logs=logs))

        def _do(self, act: Callable[[], None]) -> None:
            tracking.guard(tracker, act)

    return GuardedCallback()
