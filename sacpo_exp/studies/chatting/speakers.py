"""Policies that are loaded once and answer prompt after prompt, as they do when they are judged."""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sacpo_exp.config.loading import quote
from sacpo_exp.evaluation.responding import answering_job
from sacpo_exp.pipeline import Run
from sacpo_exp.store import ArtifactSpec

#: From a prompt to what a policy says.
Speaker = Callable[[str], str]


def open_speaker(run: Run, policy: ArtifactSpec) -> Speaker:
    """Load a policy of the plan; it stays in memory as long as its speaker.

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


def quote_prompt(arguments: Sequence[str]) -> list[str]:
    """A command line on which `prompt=` may hold commas and whatever else means something to Hydra."""
    return [_quote(argument) if argument.startswith("prompt=") else argument for argument in arguments]


def _quote(argument: str) -> str:
    name, _, text = argument.partition("=")
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return argument if is_quoted or text in ("", "null") else f"{name}={quote(text)}"


def read_prompts(given: str | None) -> Iterator[str]:
    """The prompt that was given, or lines of standard input up to its end or an empty one."""
    if given is not None:
        yield given
        return
    if sys.stdin.isatty():
        import readline  # noqa: F401  arrows and history for `input`
    while line := _read_line():
        yield line


def _read_line() -> str:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""
