"""A real HTTP server on loopback that speaks chat completions, files and batches, and misbehaves as planned.

    python judge_server.py '{"seed": 0, "share": 0.3}' JOURNAL

prints its port and writes one line per call into JOURNAL. What it does to a call hangs on the seed, the call's content
and how often it came, so that a test can say what has to come out.
"""

import hashlib
import json
import random
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SEPARATOR = "\n-----\n"
#: Answers that can't be read, which the client does not ask for again.
UNREADABLE = ("garbage", "empty body", "no choices")
#: What happens to one attempt; another may succeed.
PASSING = ("429", "429 later", "500", "hang", "cut", *UNREADABLE)
#: What happens to every attempt of a question.
LASTING = ("refusal", "length", "out of range", "prose", "empty content", "400", "filter", "declined")

#: Those that are HTTP errors.
REJECTED = {
    "400": {"error": {"message": "this can't be judged", "code": None}},
    "declined": {"error": {"message": "this will not be judged", "code": "content_filter"}},
}


@dataclass
class Plan:
    """How the server behaves.

    Attributes:
        share: of the attempts that meet a passing fault.
        lasting: share of the questions that get no scores, whatever the attempt.
        latency, hang: seconds.
        status: every call gets this HTTP status instead.
        retry_after: header of `429 later`, and of `status`.
    """

    seed: int = 0
    share: float = 0.0
    lasting: float = 0.0
    latency: float = 0.0
    hang: float = 2.0
    status: int | None = None
    retry_after: str | None = None
    echo: str = ""
    echoes_key: bool = False  # as the answer's text and model, or as the id of a batch
    redirect: str | None = None  # where every call is sent
    batch_status: str = "completed"  # of the first batch; later ones are completed
    batch_share: float = 1.0
    kinds: tuple[str, ...] = field(default=PASSING)

    def fault(self, content: str, attempt: int) -> str | None:
        """What goes wrong with this attempt (from 1) of a question; None if it is answered."""
        draw = random.Random(f"{self.seed} {attempt} {content}")
        return draw.choice(self.kinds) if draw.random() < self.share else None

    def outcome(self, content: str) -> str:
        """`scores`, or why a question never gets any."""
        draw = random.Random(f"{self.seed} lasting {content}")
        return draw.choice(LASTING) if draw.random() < self.lasting else "scores"


def score(response: str) -> int:
    """From 1 to 10, by the text alone: what the judge thinks of a response wherever it stands."""
    return hashlib.sha256(response.encode()).digest()[0] % 10 + 1


def identify(body: dict[str, Any]) -> str:
    """A question, by all that was sent."""
    return json.dumps(body, sort_keys=True)


def reply_to(body: dict[str, Any], plan: Plan) -> tuple[str | None, str | None, str]:
    """(content, refusal, finish_reason) of the answer."""
    content = body["messages"][-1]["content"]
    first, second = content.split(SEPARATOR)[-2:]
    replies = {
        "scores": (f"{score(first)} {score(second)}\nBecause.", None, "stop"),
        "refusal": (None, "I can not judge this.", "stop"),
        "length": ("Response A is better, since it", None, "length"),
        "out of range": ("11 2", None, "stop"),
        "prose": ("Both have merits.", None, "stop"),
        "empty content": ("", None, "stop"),
        "filter": ("", None, "content_filter"),
    }
    return replies[plan.outcome(content)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "JudgeServer"

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.plan.redirect:
            self.send(307, {}, {"Location": self.server.plan.redirect})
        elif self.path.endswith("/chat/completions"):
            self.complete(json.loads(raw))
        elif self.path.endswith("/files"):
            self.send(200, self.server.batches.upload(raw))
        else:
            self.send(200, self.server.batches.create(json.loads(raw)))

    def list_headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers.items()}

    def do_GET(self) -> None:
        if self.server.plan.redirect:
            self.send(307, {}, {"Location": self.server.plan.redirect})
        else:
            self.server.batches.answer(self)

    def complete(self, body: dict[str, Any]) -> None:
        plan, key = self.server.plan, identify(body)
        attempt = self.server.count(key)
        content = body["messages"][-1]["content"]
        fault = "status" if plan.status else plan.fault(content, attempt)
        self.server.write(
            {
                "content": content,
                "attempt": attempt,
                "fault": fault,
                "time": time.time(),
                "headers": self.list_headers(),
            }
        )
        time.sleep(plan.latency)
        if fault:
            self.fail(fault)
        elif (outcome := plan.outcome(content)) in REJECTED:
            self.send(400, REJECTED[outcome])
        else:
            answer = completion(*reply_to(body, plan))
            if plan.echoes_key:
                answer["model"] = key = self.headers["Authorization"].split()[1]
                answer["choices"][0]["message"]["content"] += f" Your key is {key}."
            self.send(200, answer)

    def fail(self, fault: str) -> None:
        plan = self.server.plan
        error = {"error": {"message": f"{fault} {plan.echo}".strip(), "code": None}}
        if fault == "status":
            code = "insufficient_quota" if plan.status == 499 else None
            header = {"Retry-After": plan.retry_after} if plan.retry_after else {}
            self.send(
                429 if plan.status == 499 else plan.status or 500, {"error": error["error"] | {"code": code}}, header
            )
        elif fault in ("429", "500"):
            self.send(int(fault), error)
        elif fault == "429 later":
            self.send(429, error, {"Retry-After": plan.retry_after or formatdate(time.time(), usegmt=True)})
        elif fault == "hang":
            time.sleep(plan.hang)
            self.close_connection = True
        elif fault == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices": [{"mess')
            self.close_connection = True
        else:
            self.send_text(200, {"garbage": "<html>Bad gateway</html>", "empty body": ""}.get(fault, '{"choices": []}'))

    def send(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self.send_text(status, json.dumps(value), headers)

    def send_text(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def work_off(request: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """The line of a batch for one request."""
    outcome = plan.outcome(request["body"]["messages"][-1]["content"])
    if outcome in REJECTED:
        response = {"status_code": 400, "body": REJECTED[outcome]}
    else:
        response = {"status_code": 200, "body": completion(*reply_to(request["body"], plan))}
    return {"custom_id": request["custom_id"], "response": response, "error": None}


def completion(content: str | None, refusal: str | None, finish_reason: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, "refusal": refusal}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 40}}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return {"id": "c", "object": "chat.completion", "model": "judge-2026", "choices": [choice], "usage": usage}


class Batches:
    """Files and batches; a batch is worked off when it is looked at, after `release` in the working folder exists."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self.folder = plan, folder
        self.files: dict[str, str] = {}
        self.made: dict[str, dict[str, Any]] = {}

    def upload(self, raw: bytes) -> dict[str, Any]:
        text = raw.decode()
        lines = [line for line in text.splitlines() if line.startswith('{"custom_id"')]
        file_id = f"file-{len(self.files)}"
        self.files[file_id] = "\n".join(lines)
        return {
            "id": file_id,
            "object": "file",
            "bytes": len(raw),
            "created_at": 0,
            "filename": "f",
            "purpose": "batch",
            "status": "processed",
        }

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        batch = {
            "id": f"batch-{len(self.made)}",
            "object": "batch",
            "endpoint": body["endpoint"],
            "completion_window": "24h",
            "created_at": int(time.time()),
            "input_file_id": body["input_file_id"],
            "metadata": body.get("metadata"),
            "status": "in_progress",
        }
        self.made[batch["id"]] = batch
        return batch

    def answer(self, handler: Handler) -> None:
        parts = handler.path.split("?")[0].strip("/").split("/")
        if parts[-1] == "content":
            handler.send_text(200, self.files[parts[-2]])
        elif parts[-1] == "batches":
            handler.send(200, {"object": "list", "data": list(self.made.values()), "has_more": False})
        elif parts[-1] not in self.made:
            handler.send(404, {"error": {"message": f"No batch found with id {parts[-1]}", "code": None}})
        else:
            batch = self.made[parts[-1]]
            if batch["status"] == "in_progress" and (self.folder / "release").exists():
                self.work(batch)
            handler.send(200, batch)

    def work(self, batch: dict[str, Any]) -> None:
        plan = self.plan if batch["id"] == "batch-0" else Plan(self.plan.seed, lasting=self.plan.lasting)
        requests = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        cut = round(plan.batch_share * len(requests))
        done = [work_off(request, plan) for request in requests[:cut]]
        lines = [json.dumps(entry) for entry in done if entry["response"]["status_code"] == 200]
        wrong = [json.dumps(entry) for entry in done if entry["response"]["status_code"] != 200]
        expired = [
            json.dumps(
                {"custom_id": r["custom_id"], "response": None, "error": {"code": "batch_expired", "message": ""}}
            )
            for r in requests[cut:]
        ]
        name = batch["id"]
        # The last line cut off, as by a connection that broke; one that nobody asked for; one twice.
        self.files[f"{name}-out"] = "\n".join(
            [*lines, *lines[:1], *(line.replace('"custom_id": "', '"custom_id": "x') for line in lines[:1])]
        )
        self.files[f"{name}-err"] = "\n".join([*wrong, *expired, '{"custom_id": "cut'])
        batch |= {"status": plan.batch_status, "output_file_id": f"{name}-out", "error_file_id": f"{name}-err"}
        if plan.batch_status == "failed":
            batch |= {"output_file_id": None, "error_file_id": None}
            batch["errors"] = {"object": "list", "data": [{"message": f"line 1 is not valid {plan.echo}".strip()}]}


class JudgeServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, plan: Plan, journal: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan, self.batches = plan, Batches(plan, journal.parent)
        self._journal, self._counts, self._lock = journal.open("a", encoding="utf-8"), Counter[str](), threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that was killed, or did not wait
            super().handle_error(request, client_address)

    def count(self, key: str) -> int:
        with self._lock:
            self._counts[key] += 1
            return self._counts[key]

    def write(self, entry: dict[str, Any]) -> None:
        with self._lock:
            self._journal.write(json.dumps(entry) + "\n")
            self._journal.flush()


if __name__ == "__main__":
    server = JudgeServer(Plan(**json.loads(sys.argv[1])), Path(sys.argv[2]))
    print(server.server_address[1], flush=True)
    server.serve_forever()
