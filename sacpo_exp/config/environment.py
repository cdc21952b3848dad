"""Secrets and addresses from a `.env` file in the working directory, as if they stood in the environment."""

import os
import re
from pathlib import Path
from typing import Final

from sacpo_exp.errors import ConfigError

DOTENV: Final = Path(".env")
#: (variable with an address, variable with a key that a library sends there).
SENT: Final = (
    ("WANDB_BASE_URL", "WANDB_API_KEY"),
    ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN"),
    ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_PASSWORD"),
    ("HF_ENDPOINT", "HF_TOKEN"),
)
LINE: Final = re.compile(r"\s*(?:export\s+)?(?P<name>[A-Za-z_]\w*)\s*=\s*(?P<value>.*?)\s*")
QUOTED: Final = re.compile(r"""(?P<quote>["'])(?P<text>.*?)(?P=quote)\s*(?:#.*)?""")


def load_dotenv() -> None:
    """Put what the file says into the environment; what is set there already wins, and an empty value sets nothing.

    Raises:
        ConfigError: the file is there but can't be read, or directs a key of the shell to an address.
    """
    for name, value in read_dotenv(DOTENV).items():
        if value and not os.environ.get(name):
            os.environ[name] = value
    for address, key in SENT:
        check_address(address, key)


def check_address(address: str, key: str) -> None:
    """Raise `ConfigError` if the address in one variable is the file's, but the key in the other is not.

    A file that came with a folder must not direct a key of the user elsewhere.
    """
    written, secret = read_dotenv(DOTENV), os.environ.get(key)
    if secret and written.get(address) and written[address] == os.environ.get(address) and written.get(key) != secret:
        raise ConfigError(
            f"the {DOTENV} file here sets {address}, where {key} of the shell would be sent. Try: take it out of "
            f"{DOTENV} and export {address}=..., or write both into {DOTENV}."
        )


def read_dotenv(path: Path) -> dict[str, str]:
    """Lines NAME=VALUE of a `.env` file, if there is one, with quotes, `export` and comments as shells have them."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (FileNotFoundError, IsADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read: {type(error).__name__}.") from error
    found = {}
    for line in lines:
        if (match := LINE.fullmatch(line)) and not line.lstrip().startswith("#"):
            quoted = QUOTED.fullmatch(match["value"])
            found[match["name"]] = quoted["text"] if quoted else match["value"].split(" #")[0].rstrip()
    return found
