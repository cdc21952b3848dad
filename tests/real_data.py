"""Where the tests find data made by others, which may not be copied into the repository, and what is unseen without."""

from pathlib import Path

import pytest

#: Beside the checkout; CONTRIBUTING.md has the table of what it holds.
FOLDER = Path(__file__).parents[2] / "shared" / "data"

#: What nobody sees who does not have a part of it.
UNSEEN = {
    "preferences": "that real rows of PKU-SafeRLHF, HH-RLHF and ShareGPT are read whole and train",
    "prompts": "that the paper's prompts and XSTest are read, and that labels and refusals are those published",
    "responses": "that answers of real models are read and laid side by side",
    "judgments": "that real reviews of GPT-4 are parsed, and that rates and errors are those that AlpacaEval publishes",
    "ratings": "that Elo and Bradley-Terry ratings are as other programs publish them",
}


def find_real(name: str) -> Path:
    """A file or folder of the real data; skips the test, and says what is not shown, where it is not there."""
    path = FOLDER / name
    if not path.exists():
        unseen = UNSEEN[name.split("/")[0]]
        pytest.skip(f"not shown without the data beside the repository: {unseen} (no {path}; see CONTRIBUTING.md)")
    return path
