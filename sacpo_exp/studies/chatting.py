"""Put one prompt to several policies and print their answers, one below the other."""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from sacpo_exp.config.loading import quote
from sacpo_exp.evaluation.responding import answering_job
from sacpo_exp.pipeline import Run
from sacpo_exp.store import ArtifactSpec

#: From a prompt to the answer of a policy.
Speaker = Callable[[str], str]


def open_speaker(run: Run, policy: ArtifactSpec) -> Speaker:
    """Load a policy of the plan and return the function that answers with it.

    Raises:
        ConfigError: it can't be loaded.
        StoreError: its files are damaged.
    """
    from sacpo_exp.evaluation.engine import generate_responses

    job = answering_job(run, policy, [])
    weights, tokenizer = job.load()

    def speak(prompt: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            (response,) = generate_responses(weights, tokenizer, [prompt], job.decoding, Path(folder), None)
        cut = f" … (cut at {job.decoding.max_new_tokens} tokens)" if response.finish_reason == "length" else ""
        return (response.text or "(nothing)") + cut

    return speak


def format_answer(title: str, text: str) -> str:
    """Return an answer below its policy's name, with its line breaks but without characters that a terminal obeys."""
    lines = ("".join(c if c.isprintable() else " " for c in line) for line in text.splitlines())
    return "\n".join([f"--- {title}", *lines, ""])


def quote_prompt(arguments: Sequence[str]) -> list[str]:
    """Return a command line on which `prompt=` may contain any text, such as commas."""

    def quote_one(argument: str) -> str:
        name, _, text = argument.partition("=")
        is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
        return argument if name != "prompt" or is_quoted or text in ("", "null") else f"{name}={quote(text)}"

    return [quote_one(argument) for argument in arguments]


def read_prompts(given: str | None) -> Iterator[str]:
    """Yield the given prompt, or lines of standard input up to its end or an empty line."""
    if given is not None:
        yield given
        return
    with suppress(EOFError):
        while line := input("> " if sys.stdin.isatty() else "").strip():
            yield line
