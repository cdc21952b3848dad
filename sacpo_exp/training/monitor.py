"""Watches a stage while it trains: progress bar, the loss at the start, and a loss that is no number."""

import math
from typing import TYPE_CHECKING, Any

from sacpo_exp.config.models import FloatType
from sacpo_exp.config.schema import StageJob
from sacpo_exp.config.stages import loss_of
from sacpo_exp.errors import DivergedError, SacpoError

if TYPE_CHECKING:
    from transformers import TrainerCallback

#: How far the first DPO loss may lie from ln 2. Reference and policy see differently padded batches, which bfloat16
#: rounds differently; ten times what was seen on the demo.
START_TOLERANCE = {FloatType.float32: 1e-3, FloatType.bfloat16: 5e-2, FloatType.float16: 5e-2}


def stage_monitor(job: StageJob, is_fresh: bool) -> "TrainerCallback":
    """The callback of one stage; `is_fresh` is false when it goes on from a checkpoint."""
    from tqdm import tqdm
    from transformers import TrainerCallback

    expected = expected_start(job) if is_fresh else None
    is_scaling = FloatType.float16 in (job.config.optimization.dtype, job.config.optimization.autocast)

    class StageMonitor(TrainerCallback):  # type: ignore[misc]
        """One bar per stage; every logged loss is checked."""

        bar: "tqdm[Any] | None" = None

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.is_world_process_zero:
                total, start = state.max_steps, state.global_step
                self.bar = tqdm(total=total, initial=start, desc=f"{job.name} stage", unit="update", mininterval=1.0)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if self.bar is not None:
                self.bar.update(state.global_step - self.bar.n)

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
            if "eval_loss" in logs:  # the last update is seen here only
                check_finite(job, state.global_step, "loss", float(logs["eval_loss"]))
            if "loss" not in logs:
                return
            loss = float(logs["loss"])
            check_finite(job, state.global_step, "loss", loss)
            if not is_scaling:  # which meets infinite gradients on its way to a scale
                check_finite(job, state.global_step, "gradient norm", float(logs.get("grad_norm", 0.0)))
            if expected is not None and state.global_step == 1:
                check_start(job, loss, expected)
            if self.bar is not None:
                self.bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if self.bar is not None:
                self.bar.close()

    return StageMonitor()


def expected_start(job: StageJob) -> float | None:
    """Loss before the first update where it is known, since policy and reference are still equal.

    It is not with arguments of the user's, some of which change the loss (`use_weighting`) or keep dropout.
    """
    stage = job.config.stages[job.name]
    is_known = job.config.hardware.logging_steps == 1 and not (job.config.trainer or stage.trainer)
    return loss_of(stage).start if is_known else None


def check_start(job: StageJob, loss: float, expected: float) -> None:
    """Raises SacpoError if the first loss says that the reference is not the starting point."""
    optimization = job.config.optimization
    tolerance = START_TOLERANCE[optimization.autocast or optimization.dtype]
    if abs(loss - expected) > tolerance:
        raise SacpoError(
            f"the {job.name} stage starts with a loss of {loss:.4f} instead of {expected:.4f} (± {tolerance:g})"
            ": its reference is not its starting point. Nothing was stored. Please report this with resolved.yaml."
        )


def check_finite(job: StageJob, update: int, name: str, value: float) -> None:
    """Raises DivergedError (exit code 3) if the loss, or the norm of its gradient, is no finite number."""
    if not math.isfinite(value):
        raise DivergedError(
            f"training of the {job.name} stage diverged: the {name} is {value} at update {update}. Nothing of it was "
            f"stored. Try: stages.{job.name}.learning_rate=<less than it was>"
        )
