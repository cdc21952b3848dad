"""Read the `.env` file, and refuse secrets and mistakes on the command line before Hydra writes it to disk."""

import os
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from sacpo_exp.errors import ConfigError

DOTENV: Final = Path(".env")
#: (variable with an address, variable with a key that a library sends there).
SENT: Final = (
    ("WANDB_BASE_URL", "WANDB_API_KEY"),
    ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN"),
    ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_PASSWORD"),
    ("HF_ENDPOINT", "HF_TOKEN"),
)
#: Names of settings that would hold a secret: at the beginning of an override, or inside of a mapping.
SECRET: Final = re.compile(
    r"""(?:^|[{,.+\s])['"]?(\w*(?:api_?key|_token|password|secret))['"]?\s*[=:]""", re.IGNORECASE
)
VARIABLE: Final = re.compile(r"[A-Za-z_]\w*")
ADDRESS: Final = re.compile(r"[a-z][a-z0-9+.-]*://\S+")
PASSWORD: Final = re.compile("://[^@]*:[^@]*@")  # a secret key may hold slashes


def load_dotenv() -> None:
    """Add the variables of the `.env` file to the environment; those already set are kept, empty values are ignored.

    Raises:
        ConfigError: the file can't be read, or directs a key of the shell to an address.
    """
    for name, value in read_dotenv(DOTENV).items():
        if value and not os.environ.get(name):
            os.environ[name] = value
    for address, key in SENT:
        check_address(address, key)


def check_address(address: str, key: str) -> None:
    """Raise ConfigError if the address in one variable is the file's, but the key in the other is not.

    A file that came with a folder must not send a key of the user elsewhere.
    """
    written, secret = read_dotenv(DOTENV), os.environ.get(key)
    if secret and written.get(address) and written[address] == os.environ.get(address) and written.get(key) != secret:
        raise ConfigError(
            f"the {DOTENV} file here sets {address}, where {key} of the shell would be sent. Try: remove it from "
            f"{DOTENV} and export {address}=..., or write both into {DOTENV}."
        )


def read_dotenv(path: Path) -> dict[str, str]:
    """Return the variables of a `.env` file; none if there is no such file."""
    try:
        content = path.read_text("utf-8") if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read: {type(error).__name__}.") from error
    values = dotenv_values(stream=StringIO(content), interpolate=False) if content else {}
    return {name: value for name, value in values.items() if value is not None}


def find_command_line_problems(arguments: list[str], environment: dict[str, str], command: str) -> list[str]:
    """Return the problems that must be reported before Hydra reads the command line and writes it to disk."""
    if problems := [problem for argument in arguments for problem in _check_secrets(argument)]:
        return problems  # others would repeat the arguments
    if {"TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION"} & set(environment):
        problems.append(
            f"sacpo_exp.{command} starts its own workers; do not start it with accelerate or torchrun. "
            f"Try: sacpo {command}; `hardware.processes` says how many."
        )
    problems += [f"`{text[1:]}` can't be removed: leave it out." for text in arguments if text.startswith("~")]
    for folder in [text.partition("=")[2].strip("'\"") for text in arguments if text.startswith("paths.outputs=")]:
        existing = next(path for path in (Path(folder), *Path(folder).parents) if path.exists())
        if not folder.strip() or not existing.is_dir():
            reason = f"{existing} is a file" if folder.strip() else "is empty"
            problems.append(f"`paths.outputs` must be a folder, or the name of a new one, but {reason}.")
    return problems


def _check_secrets(override: str) -> Iterator[str]:
    """Refuse what must not be written to disk, in sentences that do not repeat it."""
    name, _, value = override.lstrip("+").partition("=")
    hint = "Try: export NAME=... judge.api_key_env=NAME; conf/judge has the name for each judge"
    if match := SECRET.search(override):
        yield f"`{match[1]}` can't be a setting, since settings are written to disk, and keys must not be. {hint}"
    elif name.endswith("judge.base_url") and holds_secret(value):
        yield f"`{name}` must be an address without user, password or query. {hint}"
    elif name.endswith("api_key_env") and not VARIABLE.fullmatch(value):
        yield f"`{name}` must be the name of an environment variable, or null. {hint}"
    elif name == "store.mirror" and holds_secret(value):
        yield from check_mirror(value)


def check_mirror(url: str, key: str = "`store.mirror`") -> Iterator[str]:
    """Check a mirror's address; one that holds a secret is not repeated."""
    examples = "store.mirror=s3://BUCKET/PREFIX or store.mirror=file:///DIR"
    if holds_secret(url):
        yield f"{key} must be an address without password or query: keys belong in the environment. Try: {examples}"
    elif not ADDRESS.fullmatch(url):
        yield f"{key} must be an address, but is {url!r}. Try: {examples}"


def holds_secret(url: str) -> bool:
    """Return whether an address has a password before the host, or a query."""
    return "?" in url or PASSWORD.search(url) is not None
