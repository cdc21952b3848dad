"""Put one prompt to several policies and print their answers side by side."""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sacpo_exp.config.loading import quote
from sacpo_exp.evaluation.responding import answering_job
from sacpo_exp.pipeline import Run
from sacpo_exp.store import ArtifactSpec

#: Cells of the narrowest column; on a narrower terminal the texts stand one below the other.
NARROWEST = 24

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


def print_columns(texts: Sequence[tuple[str, str]], console: Console) -> None:
    """Print (title, text) in columns of equal width, or one below the other on a narrow terminal."""
    is_wide = (console.width - 2 * len(texts)) // len(texts) >= NARROWEST
    for columns in [texts] if is_wide else [[each] for each in texts]:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, expand=True, padding=(0, 1))
        for title, _ in columns:
            table.add_column(Text(title), ratio=1, overflow="fold")
        table.add_row(*(Text(printable_lines(text)) for _, text in columns))
        console.print(table, "")


def printable_lines(text: str) -> str:
    """Return the text with its line breaks, but without characters that a terminal obeys."""
    return "\n".join("".join(c if c.isprintable() else " " for c in line) for line in text.splitlines())


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
    if sys.stdin.isatty():
        import readline  # noqa: F401  arrow keys and history for `input`
    while line := _read_line():
        yield line


def _read_line() -> str:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""
