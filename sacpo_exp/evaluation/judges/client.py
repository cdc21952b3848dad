"""Where a judge is reached, with which key, and which errors stop a run. Keys come from the environment only."""

import ipaddress
import os
import re
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2

from sacpo_exp.config.environment import DOTENV, check_address
from sacpo_exp.config.judges import OpenAIJudgeConfig
from sacpo_exp.data.checks import printable
from sacpo_exp.errors import ConfigError, JudgeError, SacpoError
from sacpo_exp.evaluation.records import Answer, State

KEY, URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"
OPENAI_URL: Final = "https://api.openai.com/v1"
#: Sent to a server that wants no key; the client refuses to send nothing.
NO_KEY: Final = "none-needed"
MASK, SHORTEST_KEY = "sk-…", 8
#: Keys as servers echo them, their middle blanked out or not.
SECRET: Final = re.compile(r"\b(?:sk|sess)-[\w*.-]{4,}|[\w.-]*\*{3}[\w*.-]*")
#: Codes by which a provider's filter declines a prompt: OpenAI's, and Azure's.
FILTERED: Final = ("content_filter", "content_policy_violation", "invalid_prompt")
UNSTRUCTURED: Final = re.compile("response_format|json_schema|grammar|structured", re.IGNORECASE)


def find_base_url(judge: OpenAIJudgeConfig) -> str:
    """Return `judge.base_url`, else OPENAI_BASE_URL, else OpenAI's own, without a slash at its end.

    ConfigError for one that is no address or holds a secret, which the ledger would store.
    """
    url = judge.base_url or os.environ.get(URL) or OPENAI_URL
    name = "`judge.base_url`" if judge.base_url else URL
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"{name} must be an address that begins with http:// or https://, but is {url}.")
    if re.search("[@?#]", url):
        raise ConfigError(f"{name} must be an address without user, password or query. Try: export {KEY}=...")
    return url.rstrip("/")


def find_key(judge: OpenAIJudgeConfig) -> str:
    """Return the key for the judge's server; `NO_KEY` where none is to be sent.

    ConfigError for one that is missing, that no header takes, or that others could read or have directed elsewhere.
    """
    url, name = find_base_url(judge), judge.api_key_env
    key = os.environ.get(name, "").strip() if name else ""
    if not key:
        if name not in (None, KEY) or urlsplit(url).hostname == urlsplit(OPENAI_URL).hostname:
            missing = f"{name} is neither in the environment nor in a {DOTENV} file here"
            raise ConfigError(
                f"the judge at {url} needs a key, but {missing if name else '`judge.api_key_env` is null'}. "
                f"Try: export {name or KEY}=..., or judge=scorer, which needs none."
            )
        return NO_KEY
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"{name} must be one line of ASCII letters, digits and signs, but has other characters.")
    if url.startswith("http:") and not is_loopback(url):
        raise ConfigError(
            f"the key in {name} would be sent to {url} where others can read it. "
            "Try: an address that begins with https://, or judge.api_key_env=null for a server that needs none."
        )
    if not judge.base_url:
        check_address(URL, str(name))
    return key


def is_loopback(url: str) -> bool:
    """Return whether what is sent there stays on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def connection_settings(url: str) -> dict[str, Any]:
    """Return arguments of an HTTP client.

    No redirect is followed, since it would get the texts and the key; no proxy is used on the way to this machine.
    """
    return {"follow_redirects": False, "trust_env": not (url.startswith("http:") and is_loopback(url))}


def check_server(url: str) -> None:
    """Raise ConfigError if nobody answers at `url`, before the client waits between its attempts."""
    try:
        with httpx2.Client(timeout=20, **connection_settings(url)) as client, client.stream("GET", url):
            pass
    except httpx2.TransportError as error:
        raise ConfigError(
            f"`judge.base_url` must be where a server answers, but at {url} there is none ({error})."
        ) from error


def redact(text: str, key: str) -> str:
    """Return `text` without the key, what looks like one, and control characters, which a terminal would obey."""
    return SECRET.sub(MASK, printable(_mask(text, key)))


def mask(answer: Answer, key: str) -> Answer:
    """Return `answer` with the key blanked out in every text of the server."""
    texts: dict[str, Any] = {name: _mask(text, key) for name, text in vars(answer).items() if type(text) is str}
    return replace(answer, **texts)


def _mask(text: str, key: str) -> str:
    # Shorter ones are words, as `EMPTY` is for vLLM, and no secret.
    return text.replace(key, MASK) if key != NO_KEY and len(key) >= SHORTEST_KEY else text


def describe_error(error: Exception, key: str) -> str:
    """Return what an error of the client or of an answer says, without secrets."""
    import openai

    if isinstance(error, openai.APIStatusError):
        body = error.body if isinstance(error.body, dict) else {}
        message = f"HTTP {error.status_code}: {body.get('message') or error.message}"
    elif isinstance(error, openai.APITimeoutError):
        message = "no answer in time"
    else:
        message = str(error.__cause__ if isinstance(error.__cause__, ValueError) else error)
    return redact(" ".join(message.split())[:300], key)


def find_fatal(error: Exception, judge: OpenAIJudgeConfig, key: str) -> SacpoError | None:
    """Return the error for the user if no other question would succeed either; None if only this call failed."""
    url, status = find_base_url(judge), getattr(error, "status_code", 0)
    message = describe_error(error, key)
    if status in (401, 403):
        names = f" judge.api_key_env={KEY}" if judge.api_key_env is None else ""
        hint = f"Try: export {judge.api_key_env or KEY}=...{names}"
        return ConfigError(f"the judge at {url} does not accept the key ({message}). {hint}")
    if 300 <= status < 400:
        return ConfigError(f"`judge.base_url` must be where a server answers, but at {url} there is a redirect.")
    if status in (404, 405):
        return ConfigError(
            f"`judge.base_url` {url} or `judge.model` {judge.model} is not there ({message}). "
            "Try: judge.base_url=http://HOST:PORT/v1 judge.model=NAME"
        )
    if judge.structured and status in (400, 422, 501) and UNSTRUCTURED.search(message):
        return ConfigError(f"the judge at {url} takes no JSON schema ({message}). Try: judge.structured=false")
    if getattr(error, "code", None) == "insufficient_quota":
        return JudgeError(f"the judge at {url} stopped: {message}. What was judged is kept.")
    return None


def failed_answer(message: str, code: Any, **known: Any) -> Answer:
    """Return the record of a call without an answer: `refused` by the provider's filter, else `failed`."""
    if code in FILTERED:
        return Answer(State.refused, finish_reason="content_filter", error=message, **known)
    return Answer(State.failed, error=message, **known)
