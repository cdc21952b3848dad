"""A real HTTP server on loopback that speaks chat completions, and misbehaves as planned.

What it does to a call can be computed by a test.
"""

import hashlib
import json
import multiprocessing
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from loopback import JsonHandler

SEPARATOR = "\n-----\n"
#: Answers that can't be read, which the client does not ask for again.
UNREADABLE = {"garbage": "<html>Bad gateway</html>", "empty body": "", "no choices": '{"choices": []}'}
#: What happens to one attempt; another may succeed.
PASSING = ("429", "429 later", "500", "hang", "cut", *UNREADABLE)
#: What happens to every attempt of a question.
LASTING = ("refusal", "length", "out of range", "prose", "empty content", "400", "filter", "declined")
#: Those that are HTTP errors, and the (content, refusal, finish_reason) of those that are answers.
REJECTED = {
    "400": {"error": {"message": "this can't be judged", "code": None}},
    "declined": {"error": {"message": "this will not be judged", "code": "content_filter"}},
}
USELESS = {
    "refusal": (None, "I can not judge this.", "stop"),
    "length": ("Response A is better, since it", None, "length"),
    "out of range": ("11 2", None, "stop"),
    "prose": ("Both have merits.", None, "stop"),
    "empty content": ("", None, "stop"),
    "filter": ("", None, "content_filter"),
}


@dataclass
class Plan:
    """How the server behaves: shares of attempts and of questions that meet faults, and what is always sent."""

    seed: int = 0
    share: float = 0.0  # of the attempts
    lasting: float = 0.0  # of the questions
    latency: float = 0.0
    hang: float = 2.0
    status: int | None = None
    retry_after: str | None = None
    echo: str = ""
    echoes_key: bool = False
    redirect: str | None = None
    kinds: tuple[str, ...] = PASSING

    def fault(self, content: str, attempt: int) -> str | None:
        """What goes wrong with this attempt (from 1) of a question; None if it is answered."""
        draw = random.Random(f"{self.seed} {attempt} {content}")
        return draw.choice(self.kinds) if draw.random() < self.share else None

    def outcome(self, content: str) -> str:
        """`scores`, or why a question never gets any."""
        draw = random.Random(f"{self.seed} lasting {content}")
        return draw.choice(LASTING) if draw.random() < self.lasting else "scores"

    def reply(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """HTTP status and content of the answer to a request."""
        content = body["messages"][-1]["content"]
        outcome = self.outcome(content)
        if outcome in REJECTED:
            return 400, REJECTED[outcome]
        first, second = content.split(SEPARATOR)[-2:]
        scores = f"{score(first)} {score(second)}\nBecause."
        text, refusal, finish_reason = USELESS.get(outcome, (scores, None, "stop"))
        message = {"role": "assistant", "content": text, "refusal": refusal}
        choices = [{"index": 0, "message": message, "finish_reason": finish_reason}]
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 40}}
        about = {"id": "c", "object": "chat.completion", "model": "judge-2026"}
        return 200, about | {"choices": choices, "usage": usage}


def score(response: str) -> int:
    """From 1 to 10, by the text alone: what the judge thinks of a response wherever it stands."""
    return hashlib.sha256(response.encode()).digest()[0] % 10 + 1


class Handler(JsonHandler):
    server: "JudgeServer"

    def do_POST(self) -> None:
        raw = self.read_body()
        if self.server.plan.redirect:
            self.send(307, {}, {"Location": self.server.plan.redirect})
        else:
            self.complete(json.loads(raw))

    def do_GET(self) -> None:
        if self.server.plan.redirect:
            self.send(307, {}, {"Location": self.server.plan.redirect})
        else:
            self.send(404, {})

    def complete(self, body: dict[str, Any]) -> None:
        plan, content = self.server.plan, body["messages"][-1]["content"]
        headers = {name.lower(): value for name, value in self.headers.items()}
        attempt = self.server.write(
            json.dumps(body, sort_keys=True), {"content": content, "headers": headers, "body": body}
        )
        fault = "status" if plan.status else plan.fault(content, attempt)
        time.sleep(plan.latency)
        if fault:
            self.fail(fault)
            return
        status, answer = plan.reply(body)
        if plan.echoes_key:
            answer["model"] = key = self.headers["Authorization"].split()[1]
            answer["choices"][0]["message"]["content"] += f" Your key is {key}."
        self.send(status, answer)

    def fail(self, fault: str) -> None:
        plan = self.server.plan
        error = {"error": {"message": f"{fault} {plan.echo}".strip(), "code": None}}
        if fault in UNREADABLE:
            self.send(200, UNREADABLE[fault])
        elif fault == "429 later":
            self.send(429, error, {"Retry-After": plan.retry_after or formatdate(time.time(), usegmt=True)})
        elif fault == "hang":
            time.sleep(plan.hang)
            self.close_connection = True
        elif fault == "cut":
            self.send(200, '{"choices": [{"mess', {"Content-Length": "1000"})
            self.close_connection = True
        else:
            self.send(plan.status or int(fault), error)


class JudgeServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, plan: Plan, journal: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan = plan
        self._journal, self._counts, self._lock = journal.open("a", encoding="utf-8"), Counter[str](), threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that was killed, or did not wait
            super().handle_error(request, client_address)

    def write(self, key: str, entry: dict[str, Any]) -> int:
        """Write a call into the journal; returns how often this question has come."""
        with self._lock:
            self._counts[key] += 1
            self._journal.write(json.dumps(entry) + "\n")
            self._journal.flush()
            return self._counts[key]


@contextmanager
def serve(plan: Plan, journal: Path) -> Iterator[int]:
    """The port of a server in a process of its own, which writes one line per call into a journal."""
    server = JudgeServer(plan, journal)
    process = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)
    process.start()
    server.socket.close()
    try:
        yield server.server_address[1]
    finally:
        process.kill()
        process.join()
