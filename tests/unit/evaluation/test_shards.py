"""Prompts are divided without loss, evenly in number and in length."""

from hypothesis import given
from hypothesis import strategies as st

from sacpo_exp.evaluation.generation import shard

SIZES = st.lists(st.integers(1, 4000), max_size=60)


@given(SIZES, st.integers(1, 9))
def test_every_prompt_is_in_one_shard(sizes: list[int], count: int) -> None:
    shards = shard(sizes, count)
    assert sorted(index for part in shards for index in part) == list(range(len(sizes)))
    assert len(shards) == min(count, len(sizes))


@given(SIZES, st.integers(1, 9))
def test_shards_are_as_long_as_one_another_but_for_the_longest_prompt(sizes: list[int], count: int) -> None:
    totals = [sum(sizes[index] for index in part) for part in shard(sizes, count)]
    if totals:
        assert max(totals) - min(totals) <= max(sizes)
