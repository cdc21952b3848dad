"""Low-rank adapters without torch: what is wrong with one, what decides its content, what it is called."""

import importlib.util
from collections.abc import Iterator
from typing import Any

from sacpo_exp.config.models import AdapterConfig
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.errors import ConfigError

#: What peft calls all linear layers but the head.
ALL_LINEAR = "all-linear"
#: Layers that can't have an adapter: embeddings are not linear, and TRL 1.16 reads the head's own weights only.
REFUSED = ("lm_head", "embed_tokens")


def find_adapter_problems(config: RunConfig) -> Iterator[str]:
    """What is wrong with the adapter, by itself and on this hardware."""
    adapter = config.adapter
    if adapter is None:
        return
    if not adapter.target_modules:
        yield f"`adapter.target_modules` must name layers, but is empty. Try: adapter.target_modules=[{ALL_LINEAR}]"
    if ALL_LINEAR in adapter.target_modules and len(adapter.target_modules) > 1:
        yield f"`adapter.target_modules` must be [{ALL_LINEAR}] or a list of names, but mixes them."
    for name in adapter.target_modules:
        if name in REFUSED:
            yield f"`adapter.target_modules` must name linear layers inside the model, but has {name}."
    if adapter.quantize and config.hardware.zero_stage == 3:
        yield (
            "`hardware.zero_stage=3` can't be used with quantised weights (`adapter.quantize`), which it can't shard. "
            "Try: hardware.zero_stage=2, or adapter=lora"
        )


def check_quantisation(adapter: AdapterConfig | None) -> None:
    """Raises ConfigError where weights are to be quantised and the library for it is not installed."""
    if adapter is not None and adapter.quantize and importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"`adapter={adapter.name}` quantises weights with bitsandbytes, which is not installed. "
            "Try: pip install bitsandbytes==0.50.2, or adapter=lora"
        )


def adapter_recipe(adapter: AdapterConfig) -> dict[str, Any]:
    """All of an adapter that decides what is learnt, for ids."""
    recipe = {name: value for name, value in vars(adapter).items() if name != "name"}
    return recipe | {"target_modules": sorted(adapter.target_modules)}


def adapter_tag(adapter: AdapterConfig) -> str:
    """A short name, the same for the same recipe: `lora16`, `qlora64`."""
    return f"{'qlora' if adapter.quantize else 'lora'}{adapter.r}"
