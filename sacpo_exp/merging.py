"""P-SACPO: average the weights of two policies, θ_q = q·θ_second + (1 − q)·θ_first, through mergekit."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from sacpo_exp.models.loading import quiet_transformers

#: Files of a policy besides its weights, all alike in the two parents.
COMPANIONS = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def merge_policies(first: Path, second: Path, ratio: float, folder: Path) -> dict[str, Any]:
    """Write the merged policy into `folder`, computed in float32 and stored in the parents' dtype.

    Args:
        first, second: folders of policies of the same shape and dtype.
        ratio: weight q of the second policy, between 0 and 1; at the ends the parent's own weights are copied, bit for
            bit, since 1·θ + 0·θ' is not θ where a weight of θ' overflows or rounds.
    """
    for name in COMPANIONS:
        if (second / name).is_file():
            shutil.copy2(second / name, folder / name)
    if ratio in (0.0, 1.0):
        _copy_weights(second if ratio == 1.0 else first, folder)
    else:
        _average_weights(first, second, ratio, folder)
    return {"ratio": ratio}


def _copy_weights(parent: Path, folder: Path) -> None:
    for path in parent.glob("*.safetensors*"):
        shutil.copy2(path, folder / path.name)


def _average_weights(first: Path, second: Path, ratio: float, folder: Path) -> None:
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    quiet_transformers()
    recipe = {
        "merge_method": "linear",
        "models": [
            {"model": str(first), "parameters": {"weight": 1 - ratio}},
            {"model": str(second), "parameters": {"weight": ratio}},
        ],
        "dtype": "float32",
        "out_dtype": stored_dtype(first),
        "parameters": {"normalize": False},  # the weights add up to one as they are
    }
    options = MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True, trust_remote_code=False)
    work = folder / "mergekit"
    logging.disable(logging.INFO)  # it tells the root logger of every tied weight
    try:
        run_merge(MergeConfiguration.model_validate(recipe), str(work), options)
    finally:
        logging.disable(logging.NOTSET)
    for path in work.glob("*.safetensors*"):
        path.rename(folder / path.name)
    shutil.rmtree(work)  # its copy of the configuration names the parents' paths


def stored_dtype(policy: Path) -> str:
    """`float32`, `bfloat16` or `float16`, as the policy's own config.json says."""
    config = json.loads((policy / "config.json").read_text("utf-8"))
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")
