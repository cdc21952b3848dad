"""Send an exported folder to the Hugging Face hub."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sacpo_exp.errors import ConfigError, HubError

TOKEN: Final = "HF_TOKEN"
FORBIDDEN: Final = (401, 403, 404)  # 404 too: what a token may not see is said not to be there


def check_access() -> None:
    """Raises ConfigError for what would stop an upload after the folder is written: no token, no network wanted."""
    from huggingface_hub import constants

    if not os.environ.get(TOKEN):
        raise ConfigError(
            f"`hub` needs a token that may write, but {TOKEN} is not set. Try: put it into the environment or .env, "
            "from https://huggingface.co/settings/tokens"
        )
    if constants.is_offline_mode():
        raise ConfigError("`hub` needs the network, but HF_HUB_OFFLINE is set. Try: HF_HUB_OFFLINE=0")


def push_folder(folder: Path, repository: str, is_private: bool) -> str:
    """Upload `folder` as one commit and return the repository's address.

    Raises:
        ConfigError: the hub refuses the token, or the repository is public and `is_private` says that it is not to be.
        HubError: the hub can't be reached, or fails.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=os.environ[TOKEN])
    with _explained(folder, repository, api.endpoint):
        address = api.create_repo(repository, private=is_private, exist_ok=True)
        if is_private and not api.repo_info(repository).private:
            raise ConfigError(
                f"{repository} is there and public, but `private` is true; nothing was sent. The export lies in "
                f"{folder}. Try: hub=USER/OTHER_NAME, or private=false"
            )
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Export by sacpo_exp")
    return str(address)


@contextmanager
def _explained(folder: Path, repository: str, endpoint: str) -> Iterator[None]:
    """What the client raises, in one sentence."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    kept = f"The export lies in {folder}; the same command tries again."
    try:
        yield
    except HfHubHTTPError as error:
        code = error.response.status_code
        if code in FORBIDDEN:
            raise ConfigError(
                f"{endpoint} refuses to let the token in {TOKEN} write to {repository} ({code}). {kept}"
            ) from error
        raise HubError(f"{endpoint} could not take {repository} ({code}). {kept}") from error
    except (HTTPError, OSError) as error:
        raise HubError(f"{endpoint} can't be reached ({type(error).__name__}). {kept}") from error
