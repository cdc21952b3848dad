"""What vLLM is asked, without vLLM: its own signatures are compared in tests/integration; how prompts are divided."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sacpo_exp.config.schema import Engine, GenerationConfig
from sacpo_exp.errors import ConfigError
from sacpo_exp.evaluation.generation import check_engine, shard
from sacpo_exp.evaluation.responding import divergence_artifact, responses_artifact
from sacpo_exp.evaluation.vllm_engine import sampling_arguments
from sacpo_exp.method.policy import Base
from sacpo_exp.plan import LINEAGE, Fingerprints
from sacpo_exp.store import ArtifactSpec


def test_greedy_has_no_temperature_and_samples_have_a_seed() -> None:
    assert sampling_arguments(8, [2], ["\n"], None)["temperature"] == 0
    sampled = sampling_arguments(8, [2], ["\n"], 7)
    assert (sampled["temperature"], sampled["seed"]) == (1, 7)
    # A stop string that may come before a response is not left to vLLM.
    assert sampling_arguments(8, [2], ["User", "\n\n", " END"], None)["stop"] == ["User"]


def test_another_engine_or_dtype_is_another_id_and_those_of_before_stay(configure: Any) -> None:
    labels = {LINEAGE: Base("x", "tiny").to_dict()}
    policy, prints = ArtifactSpec("stage", "tiny", {}, (), labels), Fingerprints({}, "p", "", {})
    plain, other = configure("model=tiny"), configure("model=tiny", "generation.engine=vllm")
    assert "engine" not in responses_artifact(policy, plain, prints).recipe
    assert responses_artifact(policy, other, prints).recipe["engine"] == "vllm"
    drawn = [divergence_artifact(policy, policy, config, prints).id for config in (plain, other)]
    assert drawn[0] != drawn[1]
    exact, rounded = (configure("model=tiny", f"generation.dtype={dtype}") for dtype in ("float32", "bfloat16"))
    recipes = [divergence_artifact(policy, policy, config, prints).recipe for config in (exact, rounded)]
    assert recipes[1] == recipes[0] | {"dtype": "bfloat16"}  # ids from before draws had another dtype stay


def test_a_missing_vllm_is_said_in_one_sentence() -> None:
    for python, sentence in (
        (None, r"needs a Python with vllm.*pip install vllm==.*generation\.python=DIR/bin/python"),
        ("/nowhere/python", r"/nowhere/python can't be started: No such file or directory\."),
    ):
        with pytest.raises(ConfigError, match=sentence):
            check_engine(GenerationConfig(engine=Engine.vllm, python=python))


@given(st.lists(st.integers(1, 4000), max_size=60), st.integers(1, 9))
def test_prompts_are_divided_without_loss_and_evenly_in_number_and_length(sizes: list[int], count: int) -> None:
    shards = shard(sizes, count)
    assert sorted(index for part in shards for index in part) == list(range(len(sizes)))
    assert len(shards) == min(count, len(sizes))
    totals = [sum(sizes[index] for index in part) for part in shards]
    assert not totals or max(totals) - min(totals) <= max(sizes)
