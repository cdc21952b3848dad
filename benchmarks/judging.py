"""Asking a judge at concurrency 64 against a loop over the openai client, on a server that answers after 0.2 s."""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "integration"))

from asking import make_judge, make_questions, served

from sacpo_exp.evaluation.judges.openai_judge import ask
from sacpo_exp.evaluation.ledger import Ledger


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judgments", type=int, default=3200, help="that we make (default: %(default)s)")
    parser.add_argument("--loop", type=int, default=40, help="of them that the loop makes (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, served(Path(folder), latency=arguments.latency) as server:
        judge = make_judge(server.url, f"judge.concurrency={arguments.concurrency}")
        questions = make_questions(judge, arguments.judgments)
        loop = time_loop(server.url, questions[: arguments.loop]) / arguments.loop
        with Ledger(Path(folder) / "ledger.sqlite") as ledger:
            start = time.perf_counter()
            ask(questions, judge, ledger)
            ours = (time.perf_counter() - start) / len(questions)
    print(f"one by one          {1 / loop:8.1f} judgments/s, over {arguments.loop}")
    print(
        f"at concurrency {arguments.concurrency:<4} {1 / ours:8.1f} judgments/s, over {len(questions)}, with the ledger"
    )
    print(f"ratio               {loop / ours:8.1f}")


def time_loop(url: str, questions: list) -> float:
    """Seconds that a user's own loop takes: ask, take the text, write it down."""
    from openai import OpenAI

    client = OpenAI(api_key="none", base_url=url)
    answers = []
    start = time.perf_counter()
    for question in questions:
        messages = [{"role": role, "content": content} for role, content in question.messages]
        reply = client.chat.completions.create(model=question.model, messages=messages, **question.sampling)
        answers.append(json.dumps({"key": question.key, "text": reply.choices[0].message.content}))
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
