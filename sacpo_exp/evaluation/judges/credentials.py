"""Where a judge is reached and with which key: from the environment, never from a configuration."""

import ipaddress
import os
import re
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

from sacpo_exp.config.environment import DOTENV, check_address
from sacpo_exp.config.judges import OpenAIJudgeConfig
from sacpo_exp.data.checks import printable
from sacpo_exp.errors import ConfigError
from sacpo_exp.evaluation.ledger import Answer

KEY, URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"
OPENAI_URL: Final = "https://api.openai.com/v1"
#: What the client sends to a server that wants no key; it refuses to send nothing.
NO_KEY: Final = "none-needed"
MASK, SHORTEST_KEY = "sk-…", 8

#: Keys as servers echo them, their middle blanked out or not.
SECRET: Final = re.compile(r"\b(?:sk|sess)-[\w*.-]{4,}|[\w.-]*\*{3}[\w*.-]*")


def find_key(judge: OpenAIJudgeConfig) -> str:
    """The key for the judge's server; a placeholder where none is to be sent, or there is none that it must have.

    Raises:
        ConfigError: there is no key although OpenAI's server is meant or `judge.api_key_env` names another variable
            than usual, it is none that could be sent, or others could read it or have chosen where it goes.
    """
    url, name = find_base_url(judge), judge.api_key_env
    key = os.environ.get(name, "").strip() if name else ""
    if not key:
        if name not in (None, KEY) or urlsplit(url).hostname == urlsplit(OPENAI_URL).hostname:
            lacks = f"{name} is neither in the environment nor in a {DOTENV} file here"
            raise ConfigError(
                f"the judge at {url} needs a key, but {lacks if name else '`judge.api_key_env` is null'}. "
                f"Try: export {name or KEY}=..., or judge=scorer, which needs none."
            )
        return NO_KEY
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"{name} must be letters, digits and signs of ASCII on one line, but holds others.")
    if url.startswith("http:") and not is_loopback(url):
        raise ConfigError(
            f"the key in {name} would be sent to {url} where others can read it. "
            "Try: an address that begins with https://, or judge.api_key_env=null for a server that needs none."
        )
    if not judge.base_url:
        check_address(URL, str(name))
    return key


def is_loopback(url: str) -> bool:
    """Whether what is sent there stays on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def find_base_url(judge: OpenAIJudgeConfig) -> str:
    """`judge.base_url`, else OPENAI_BASE_URL, else OpenAI's own; without a slash at its end.

    Raises:
        ConfigError: it is no address, or holds what the ledger, where it is kept, must not.
    """
    url = judge.base_url or os.environ.get(URL) or OPENAI_URL
    name = "`judge.base_url`" if judge.base_url else URL
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"{name} must be an address that begins with http:// or https://, but is {url}.")
    if re.search("[@?#]", url):
        raise ConfigError(f"{name} must be an address without user, password or query. Try: export {KEY}=...")
    return url.rstrip("/")


def redact(text: str, key: str) -> str:
    """`text` without the key and what looks like one, which servers echo, and without what a terminal would obey."""
    return SECRET.sub(MASK, printable(_mask(text, key)))


def mask(answer: Answer, key: str) -> Answer:
    """`answer` with the key blanked out in all that the server said."""
    said: dict[str, Any] = {name: _mask(text, key) for name, text in vars(answer).items() if type(text) is str}
    return replace(answer, **said)


def _mask(text: str, key: str) -> str:
    # Shorter ones are words, as `EMPTY` is for vLLM, and no secret.
    return text.replace(key, MASK) if key != NO_KEY and len(key) >= SHORTEST_KEY else text
