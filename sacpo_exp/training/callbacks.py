"""Callbacks of a stage: what is shown, logged and checked, and when to write a checkpoint, or to stop with one."""

import json
import math
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed
from transformers import TrainerCallback

from sacpo_exp.config.hardware import HardwareConfig
from sacpo_exp.config.models import FloatType
from sacpo_exp.config.schema import StageJob, Start
from sacpo_exp.config.stages import loss_of, science_arguments
from sacpo_exp.data.prompts import load_prompts
from sacpo_exp.errors import DivergedError, SacpoError
from sacpo_exp.progress import Progress
from sacpo_exp.stopping import Stop
from sacpo_exp.tracking.runs import COMPLETIONS, Tracking, completion_table
from sacpo_exp.training.checkpoints import LAYOUT, describe_layout, list_files, seal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Trainer

#: How far the first loss may lie from its known value. Reference and policy see differently padded batches, which
#: bfloat16 rounds differently; ten times the difference on the demo.
START_TOLERANCE = {FloatType.float32: 1e-3, FloatType.bfloat16: 5e-2, FloatType.float16: 5e-2}


def stage_callbacks(job: StageJob, stop: Stop, tracking: Tracking, has_margins: bool) -> list[TrainerCallback]:
    """Return the callbacks of a stage in the order in which they have to run."""
    return [StageMonitor(job, tracking, has_margins), CheckpointKeeper(job.config.hardware, stop)]


class StageMonitor(TrainerCallback):  # type: ignore[misc]  # of a library without types
    """Shows progress; sends logged lines to trackers, and checks them; `has_margins`: the first loss is not known."""

    progress: Progress | None = None
    note = ""

    def __init__(self, job: StageJob, tracking: Tracking, has_margins: bool) -> None:
        self.job, self.tracking, self.expected = job, tracking, None if has_margins else expected_start(job)
        self.checked = {"loss": "loss", "eval_loss": "loss", "grad_norm": "gradient norm"}
        if FloatType.float16 in (job.config.optimization.dtype, job.config.optimization.autocast):
            del self.checked["grad_norm"]  # infinite gradients are met on the way to a scale

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.progress = Progress(state.max_steps, f"{self.job.name} stage", "update", state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.progress is not None:
            self.progress.update(state.global_step - self.progress.n, self.note)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
        self.tracking.log_row({**logs, "step": state.global_step})
        for key, name in self.checked.items():  # only the held-out loss shows what the last update did
            if not math.isfinite(value := float(logs.get(key, 0.0))):
                raise DivergedError(
                    f"training of the {self.job.name} stage diverged: the {name} is {value} at update "
                    f"{state.global_step}. Nothing of it was stored. "
                    f"Try: stages.{self.job.name}.learning_rate=<less than it was>"
                )
        if "loss" in logs:
            loss = float(logs["loss"])
            if self.expected is not None and state.global_step == 1:
                check_start(self.job, loss, self.expected)
            self.note = f"loss {loss:.3f}"

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.progress is not None:
            self.progress.close()


class CheckpointKeeper(TrainerCallback):  # type: ignore[misc]
    """Has checkpoints written every `save_minutes` and when `stop` is asked, by all ranks at the same update.

    They are hashed while training goes on. Only then the one before is removed, and the next may be written.
    """

    def __init__(self, hardware: HardwareConfig, stop: Stop) -> None:
        self.hardware, self.stop = hardware, stop
        self.saved, self.begun, self.longest = 0.0, 0.0, 0.0  # seconds: the last save, the present update, any update
        self.sealing, self.pool = Future[None](), ThreadPoolExecutor(1)
        self.sealing.set_result(None)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.saved = time.monotonic()
        self.stop.set_training(True)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.begun = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = time.monotonic()
        if now - self.begun > self.longest and state.is_world_process_zero:
            self.longest = now - self.begun
            self.stop.set_training(True, self.longest)
        is_due = now - self.saved >= 60 * self.hardware.save_minutes
        is_asked, is_due = self.stop.is_asked(), is_due and state.global_step < state.max_steps
        if distributed.is_initialized():  # a rank that stopped or saved alone would leave the others waiting for it
            wishes = torch.tensor([int(is_asked), int(is_due)], device=args.device)
            distributed.all_reduce(wishes, op=distributed.ReduceOp.MAX)
            is_asked, is_due = map(bool, wishes.tolist())
        if is_asked or is_due or self.sealing.done():
            self.sealing.result()  # raises what went wrong
        control.should_training_stop |= is_asked
        control.should_save |= is_asked or is_due

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        from accelerate.utils import broadcast_object_list

        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero:
            (checkpoint / LAYOUT).write_text(describe_layout(self.hardware), "utf-8")
        args.distributed_state.wait_for_everyone()
        (files,) = broadcast_object_list([list_files(checkpoint)])  # those that the first rank sees
        self.sealing = self.pool.submit(seal, checkpoint, files, args.process_index, args.world_size)
        self.saved = time.monotonic()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.sealing.result()
        self.stop.set_training(False)


class CompletionLogger(TrainerCallback):  # type: ignore[misc]
    """Logs greedy responses to the first `log_completions` prompts, also to a file of the stage.

    TRL's LogCompletionsCallback does not fit: it reads prompts as texts in the held-out rows, which are tokens here.
    """

    def __init__(self, trainer: "Trainer", job: StageJob, tracking: Tracking) -> None:
        self.trainer, self.job, self.tracking = trainer, job, tracking
        self.prompts = load_prompts(job.config.prompts, job.config.dataset)[: job.config.log_completions]

    def on_evaluate(self, args: Any, state: Any, control: Any, processing_class: Any, **kwargs: Any) -> None:
        asked = zip([each["prompt"] for each in self.prompts], self._generate(processing_class), strict=True)
        rows = [{"step": state.global_step, "prompt": prompt, "response": text} for prompt, text in asked]
        state.log_history += rows  # which checkpoints hold, so that a resume has them
        if state.is_world_process_zero:
            self.tracking.log_table(*completion_table(rows))
            kept = [json.dumps(row, ensure_ascii=False) for row in state.log_history if "response" in row]
            (Path(self.job.folder) / COMPLETIONS).write_text("\n".join([*kept, ""]), "utf-8")

    def _generate(self, tokenizer: "PreTrainedTokenizerBase") -> list[str]:
        """Return greedy responses, on every rank all of them: each takes part in gathering ZeRO-3's shards."""
        from trl.models.utils import unwrap_model_for_generation

        trainer, tokens = self.trainer, self.job.config.generation.max_new_tokens
        chats = [each.get("messages") or [{"role": "user", "content": each["prompt"]}] for each in self.prompts]
        texts = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
        inputs = tokenizer(texts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")
        kept = trainer.args.gradient_checkpointing_kwargs
        with unwrap_model_for_generation(
            trainer.model_wrapped, trainer.accelerator, gradient_checkpointing_kwargs=kept
        ) as policy:
            marks = {"eos_token_id": policy.generation_config.eos_token_id or tokenizer.eos_token_id}
            marks["pad_token_id"] = tokenizer.pad_token_id
            output = policy.generate(**inputs.to(policy.device), max_new_tokens=tokens, do_sample=False, **marks)
        new = output[:, inputs["input_ids"].shape[1] :]
        return [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]


def expected_start(job: StageJob) -> float | None:
    """Return the loss before the first update if it is known, since policy and reference are still equal.

    It is not known after a resume or with another starting point, nor with trainer arguments of the user's, some of
    which change the loss (`use_weighting`) or keep dropout.
    """
    stage = job.config.stages[job.name]
    is_known = job.checkpoint is None and stage.start == Start.parent and job.config.hardware.logging_steps == 1
    return loss_of(stage).start if is_known and not science_arguments(job.config, stage) else None


def check_start(job: StageJob, loss: float, expected: float) -> None:
    """Raise SacpoError if the first loss shows that the reference is not the starting point."""
    optimization = job.config.optimization
    tolerance = START_TOLERANCE[optimization.autocast or optimization.dtype]
    if abs(loss - expected) > tolerance:
        raise SacpoError(
            f"the {job.name} stage starts with a loss of {loss:.4f} instead of {expected:.4f} (± {tolerance:g})"
            ": its reference is not its starting point. Nothing was stored. Please report this with resolved.yaml."
        )
