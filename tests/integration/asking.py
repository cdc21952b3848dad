"""Questions, a judge and a server for tests that ask; and a process that asks, for tests that kill it."""

import json
import multiprocessing
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

from composing import compose
from judge_server import SEPARATOR, Plan, serve
from omegaconf import OmegaConf

from sacpo_exp.config.judges import OpenAIJudgeConfig
from sacpo_exp.evaluation.judges.openai_judge import ask
from sacpo_exp.evaluation.ledger import Ledger
from sacpo_exp.evaluation.records import Question, State

#: The state in which a question ends that never gets scores.
STATES = dict.fromkeys(("refusal", "filter", "declined"), State.refused) | {"400": State.failed}
STATES |= dict.fromkeys(("length", "out of range", "prose", "empty content"), State.unparsed)


@dataclass(frozen=True)
class Server:
    """A running judge server: its address, and the journal of what it was asked."""

    url: str
    journal: Path

    def calls(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.journal.read_text("utf-8").splitlines()]

    def counts(self) -> Counter[str]:
        """Calls by question."""
        return Counter(call["content"] for call in self.calls())


@contextmanager
def served(folder: Path, **plan: Any) -> Iterator[Server]:
    """A judge server in a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    journal = folder / "journal.jsonl"
    with serve(Plan(**plan), journal) as port:
        yield Server(f"http://127.0.0.1:{port}/v1", journal)


def make_judge(url: str, *overrides: str) -> OpenAIJudgeConfig:
    """`judge=local` at this address."""
    usual = ["judge=local", f"judge.base_url={url}", "judge.timeout=20", "judge.concurrency=16"]
    judge = OmegaConf.to_object(compose("eval", [*usual, *overrides]).judge)
    assert isinstance(judge, OpenAIJudgeConfig)
    return judge


def write_responses(folder: Path, prompts: list[str], said: dict[str, list[str]], kinds: Sequence[str]) -> list[str]:
    """Write what each policy says to prompts of these kinds into a file of its own, and return the paths."""
    for name, texts in said.items():
        rows = [
            {"prompt": prompt, "response": text, "kind": kind}
            for prompt, text, kind in zip(prompts, texts, kinds, strict=True)
        ]
        (folder / f"{name}.json").write_text(json.dumps(rows), "utf-8")
    return [str(folder / f"{name}.json") for name in said]


def plain_judge(folder: Path, url: str) -> list[str]:
    """Overrides for a judge at an address that is sent the texts alone."""
    template = folder / "plain.txt"
    template.write_text(SEPARATOR.join(["$prompt", "$first", "$second"]), "utf-8")
    return [f"judge.base_url={url}", f"judge.template={template}", "judge.structured=false"]


def make_questions(judge: OpenAIJudgeConfig, count: int) -> list[Question]:
    """Different questions that the server can answer, two orders of each pair."""
    sampling = {"temperature": 0.0, "max_tokens": judge.max_tokens}
    shared: Any = {"criterion": "helpfulness", "prompt": "Score both.", "repeat": 0, "scale": (1, 10)}
    shared |= {"model": judge.model, "base_url": judge.base_url or "", "sampling": sampling, "template": "test@0"}
    questions = []
    for number in range(count // 2):
        for first, second in ((f"r{number}", f"s{number}"), (f"s{number}", f"r{number}")):
            messages = (("user", SEPARATOR.join(["Score both.", first, second])),)
            questions.append(Question(prompt_id=f"p{number}", first=first, second=second, messages=messages, **shared))
    return questions


def content_of(question: Question) -> str:
    """By which the server tells questions apart."""
    return question.messages[-1][1]


@contextmanager
def questioned(
    folder: Path, count: int, *overrides: str, **plan: Any
) -> Iterator[tuple[Server, Ledger, OpenAIJudgeConfig, list[Question]]]:
    """A judge server, an open ledger, the judge, and so many questions for it."""
    with served(folder, **plan) as server, Ledger(folder / "l.sqlite") as ledger:
        judge = make_judge(server.url, *overrides)
        yield server, ledger, judge, make_questions(judge, count)


def start_asking(ledger: Path, url: str, count: int, *overrides: str) -> ForkProcess:
    """A process that asks so many questions, and can be killed."""
    judge = make_judge(url, *overrides)

    def run() -> None:
        with Ledger(ledger) as opened:
            ask(make_questions(judge, count), judge, opened)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process
