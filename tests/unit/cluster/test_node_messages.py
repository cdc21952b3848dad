"""Where nodes meet, from what Slurm, torchrun or the user puts into the environment."""

import dataclasses

import pytest
from test_groups import HARDWARE

from sacpo_exp.cluster.nodes import Rendezvous, find_rendezvous
from sacpo_exp.errors import ConfigError

TWO = dataclasses.replace(HARDWARE, nodes=2)

MEETINGS = {
    "the user": (
        {"NODE_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "7"},
        Rendezvous(1, "a", 7, is_host=False),
    ),
    "the first": (
        {"NODE_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "7"},
        Rendezvous(0, "a", 7, is_host=True),
    ),
    "Slurm": (
        {"SLURM_NODEID": "0", "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1", "SLURM_JOB_ID": "123456", "SLURM_NNODES": "2"},
        Rendezvous(0, "10.0.0.1", 23456, is_host=True),
    ),
    "torchrun": (
        {
            "GROUP_RANK": "0",
            "GROUP_WORLD_SIZE": "2",
            "MASTER_ADDR": "a",
            "MASTER_PORT": "7",
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        },
        Rendezvous(0, "a", 7, is_host=False),
    ),
}


@pytest.mark.parametrize(("environment", "expected"), MEETINGS.values(), ids=list(MEETINGS))
def test_the_environment_says_where_to_meet(environment: dict[str, str], expected: Rendezvous) -> None:
    assert find_rendezvous(TWO, environment) == expected


USER = {"NODE_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "7"}
PROBLEMS = {
    "nothing": (
        {},
        "`hardware.nodes` is 2, but the environment has no NODE_RANK and no MASTER_ADDR and no MASTER_PORT.",
    ),
    "no address": ({"NODE_RANK": "0", "MASTER_PORT": "7"}, "the environment has no MASTER_ADDR."),
    "another number": (USER | {"SLURM_NNODES": "4"}, "but 4 nodes were started. Try: hardware.nodes=4"),
    "one too many": (USER | {"NODE_RANK": "2"}, "must be below `hardware.nodes` = 2, but is 2."),
    "no number": (USER | {"MASTER_PORT": "ssh"}, "MASTER_PORT=ssh in the environment must be a whole number."),
}


@pytest.mark.parametrize(("environment", "sentence"), PROBLEMS.values(), ids=list(PROBLEMS))
def test_what_is_missing_or_wrong_is_named(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_rendezvous(TWO, environment)
    assert sentence in str(caught.value)
