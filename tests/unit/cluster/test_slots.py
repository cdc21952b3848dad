"""How a machine is divided among slots."""

import os

import pytest

from sacpo_exp.cluster.slots import divide_machine, find_gpus
from sacpo_exp.errors import ConfigError


def test_gpus_are_divided_without_overlap() -> None:
    shares = divide_machine(None, None, 2, ["4", "5", "6", "7", "8"], {})
    assert [share.devices for share in shares] == [("4", "5"), ("6", "7")]
    assert shares[1].environment()["CUDA_VISIBLE_DEVICES"] == "6,7"


def test_threads_are_divided_unless_said() -> None:
    cores = len(os.sched_getaffinity(0))
    assert [share.threads for share in divide_machine(2, None, 0, [], {})] == [max(1, cores // 2)] * 2
    assert divide_machine(2, None, 0, [], {"OMP_NUM_THREADS": "1"})[0].threads == 1
    assert divide_machine(2, 3, 0, [], {"OMP_NUM_THREADS": "1"})[0].threads == 3


def test_without_gpus_one_job_runs_at_a_time() -> None:
    assert len(divide_machine(None, None, 0, [], {})) == 1


@pytest.mark.parametrize(
    ("slots", "threads", "gpus", "found", "message"),
    [
        (0, None, 0, [], "`hydra.launcher.slots` must be a whole number of at least 1 or null, but is 0."),
        ("two", None, 0, [], "`hydra.launcher.slots` must be a whole number of at least 1 or null, but is two."),
        (1, -1, 0, [], "`hydra.launcher.threads` must be a whole number of at least 1 or null, but is -1."),
        (
            3,
            None,
            2,
            ["0", "1", "2", "3"],
            "`hydra.launcher.slots` = 3 with 2 GPUs each needs 6 GPUs, but 4 can be used here. "
            "Try: hydra.launcher.slots=2",
        ),
        (
            None,
            None,
            2,
            [],
            "`hydra.launcher.slots` = 1 with 2 GPUs each needs 2 GPUs, but 0 can be used here. Try: hardware=cpu",
        ),
    ],
)
def test_what_can_not_be_divided_is_told(
    slots: int | None, threads: int | None, gpus: int, found: list[str], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        divide_machine(slots, threads, gpus, found, {})
    assert caught.value.problems == [message]


def test_the_outer_choice_of_gpus_is_kept() -> None:
    assert find_gpus({"CUDA_VISIBLE_DEVICES": "3, 5"}) == ["3", "5"]
    assert find_gpus({"CUDA_VISIBLE_DEVICES": ""}) == []
