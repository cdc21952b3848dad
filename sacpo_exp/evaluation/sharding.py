"""Which process answers which prompts; pure."""

from collections.abc import Sequence


def shard(sizes: Sequence[int], count: int) -> list[list[int]]:
    """Indices of prompts for each of `count` processes, by turns from the shortest to the longest.

    All get as many prompts, give or take one, and of all lengths; where there are fewer prompts than processes, only
    as many shards as prompts.
    """
    by_size = sorted(range(len(sizes)), key=lambda index: (sizes[index], index))
    return [sorted(by_size[first::count]) for first in range(min(count, len(sizes)))]
