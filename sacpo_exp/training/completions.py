"""Responses to a few evaluation prompts at every evaluation of a stage's held-out rows."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from sacpo_exp.config.schema import StageJob
from sacpo_exp.data.prompts import Prompt, load_prompts
from sacpo_exp.tracking.runs import COMPLETIONS, Tracking, completion_table

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Trainer


class CompletionLogger(TrainerCallback):  # type: ignore[misc]  # of a library without types
    """Logs greedy responses to the first `log_completions` prompts, also to a file of the stage.

    TRL's LogCompletionsCallback does not fit: it reads prompts as texts in the held-out rows, which are tokens here.
    """

    def __init__(self, trainer: "Trainer", job: StageJob, tracking: Tracking) -> None:
        self.trainer, self.job, self.tracking = trainer, job, tracking
        self.prompts = load_prompts(job.config.prompts, job.config.dataset)[: job.config.log_completions]

    def on_evaluate(self, args: Any, state: Any, control: Any, processing_class: Any, **kwargs: Any) -> None:
        texts = _generate(self.trainer, processing_class, self.prompts, self.job.config.generation.max_new_tokens)
        asked = zip([each["prompt"] for each in self.prompts], texts, strict=True)
        rows = [{"step": state.global_step, "prompt": prompt, "response": text} for prompt, text in asked]
        state.log_history += rows  # which checkpoints hold, so that a resume has them
        if state.is_world_process_zero:
            self.tracking.log_table(*completion_table(rows))
            kept = [json.dumps(row, ensure_ascii=False) for row in state.log_history if "response" in row]
            (Path(self.job.folder) / COMPLETIONS).write_text("\n".join([*kept, ""]), "utf-8")


def _generate(
    trainer: "Trainer", tokenizer: "PreTrainedTokenizerBase", prompts: list[Prompt], max_new_tokens: int
) -> list[str]:
    """Return the policy's greedy responses, on every rank all of them: each takes part in gathering ZeRO-3's shards."""
    from trl.models.utils import unwrap_model_for_generation

    chats = [each.get("messages") or [{"role": "user", "content": each["prompt"]}] for each in prompts]
    texts = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(texts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")
    kept = trainer.args.gradient_checkpointing_kwargs
    with unwrap_model_for_generation(
        trainer.model_wrapped, trainer.accelerator, gradient_checkpointing_kwargs=kept
    ) as policy:
        marks = {"eos_token_id": policy.generation_config.eos_token_id or tokenizer.eos_token_id}
        marks["pad_token_id"] = tokenizer.pad_token_id
        output = policy.generate(**inputs.to(policy.device), max_new_tokens=max_new_tokens, do_sample=False, **marks)
    new = output[:, inputs["input_ids"].shape[1] :]
    return [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]
