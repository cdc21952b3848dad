"""Responses to a few evaluation prompts at every evaluation of a stage's held-out rows."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacpo_exp.config.schema import StageJob
from sacpo_exp.data.prompts import Prompt, load_prompts
from sacpo_exp.tracking.runs import COMPLETIONS, Tracking, completion_table

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback


def completion_logger(trainer: "Trainer", job: StageJob, tracking: Tracking) -> "TrainerCallback":
    """Return a callback that logs greedy responses to the first `log_completions` prompts, also to a file of the stage.

    TRL's LogCompletionsCallback does not fit: it reads prompts as texts in the held-out rows, which are tokens here.
    """
    from transformers import TrainerCallback

    config = job.config
    prompts = load_prompts(config.prompts, config.dataset)[: config.log_completions]

    class CompletionLogger(TrainerCallback):  # type: ignore[misc]
        def on_evaluate(self, args: Any, state: Any, control: Any, processing_class: Any, **kwargs: Any) -> None:
            texts = _generate(trainer, processing_class, prompts, config.generation.max_new_tokens)
            asked = zip([each["prompt"] for each in prompts], texts, strict=True)
            rows = [{"step": state.global_step, "prompt": prompt, "response": text} for prompt, text in asked]
            state.log_history += rows  # which checkpoints hold, so that a resume has them
            if state.is_world_process_zero:
                tracking.log_table(*completion_table(rows))
                kept = [json.dumps(row, ensure_ascii=False) for row in state.log_history if "response" in row]
                (Path(job.folder) / COMPLETIONS).write_text("\n".join([*kept, ""]), "utf-8")

    return CompletionLogger()


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
