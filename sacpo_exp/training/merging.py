"""P-SACPO and naive merging: average the weights of policies, θ = Σ w_i·θ_i, with mergekit."""

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sacpo_exp.training.models import quiet_transformers

#: Files of a policy besides its weights, the same in all parents.
COMPANIONS = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def merge_policies(parents: Sequence[Path], weights: Sequence[float], folder: Path) -> dict[str, Any]:
    """Write the merged policy into `folder`, computed in float32 and stored in the parents' dtype.

    Args:
        parents: folders of policies of the same shape and dtype.
        weights: one for each, between 0 and 1, which sum to 1. A parent with weight 1 is copied, bit for bit, since
            1·θ + 0·θ' is not θ where a weight of θ' overflows or rounds.
    """
    for name in COMPANIONS:
        if (parents[-1] / name).is_file():
            shutil.copy2(parents[-1] / name, folder / name)
    if 1.0 in weights:
        for path in parents[weights.index(1.0)].glob("*.safetensors*"):
            shutil.copy2(path, folder / path.name)
    else:
        _average_weights(parents, weights, folder)
    return {"weights": list(weights)}


def _average_weights(parents: Sequence[Path], weights: Sequence[float], folder: Path) -> None:
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    quiet_transformers()
    recipe = {
        "merge_method": "linear",
        "models": [
            {"model": str(parent), "parameters": {"weight": weight}}
            for parent, weight in zip(parents, weights, strict=True)
        ],
        "dtype": "float32",
        "out_dtype": stored_dtype(parents[0]),
        "parameters": {"normalize": False},  # the weights add up to one as they are
    }
    options = MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True, trust_remote_code=False)
    work = folder / "mergekit"
    logging.disable(logging.INFO)  # it logs every tied weight
    try:
        run_merge(MergeConfiguration.model_validate(recipe), str(work), options)
    finally:
        logging.disable(logging.NOTSET)
    for path in work.glob("*.safetensors*"):
        path.rename(folder / path.name)
    shutil.rmtree(work)  # its copy of the configuration names the parents' paths


def stored_dtype(policy: Path) -> str:
    """Return `float32`, `bfloat16` or `float16`, from the policy's config.json."""
    config = json.loads((policy / "config.json").read_text("utf-8"))
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")
