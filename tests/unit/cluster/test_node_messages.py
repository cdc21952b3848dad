"""Where nodes meet, from what Slurm or the user puts into the environment."""

import dataclasses

import pytest
from test_groups import HARDWARE

from sacpo_exp.cluster.nodes import Place, find_place
from sacpo_exp.errors import ConfigError

TWO = dataclasses.replace(HARDWARE, nodes=2)

USER = {"NODE_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "7"}
SLURM = {"SLURM_NODEID": "0", "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1", "SLURM_JOB_ID": "123456", "SLURM_NNODES": "2"}


@pytest.mark.parametrize(
    ("environment", "expected"), [(USER, Place(1, "a", 7)), (SLURM, Place(0, "10.0.0.1", 23456))], ids=["user", "Slurm"]
)
def test_the_environment_says_where_to_meet(environment: dict[str, str], expected: Place) -> None:
    assert find_place(TWO, environment) == expected


PROBLEMS = {
    "nothing": (
        {},
        "`hardware.nodes` is 2, but the environment has no NODE_RANK and no MASTER_ADDR and no MASTER_PORT.",
    ),
    "another number": (USER | {"SLURM_NNODES": "4"}, "but 4 nodes were started. Try: hardware.nodes=4"),
    "one too many": (USER | {"NODE_RANK": "2"}, "must be below `hardware.nodes` = 2, but is 2."),
    "no number": (USER | {"MASTER_PORT": "ssh"}, "MASTER_PORT=ssh in the environment must be a whole number."),
}


@pytest.mark.parametrize(("environment", "sentence"), PROBLEMS.values(), ids=list(PROBLEMS))
def test_what_is_missing_or_wrong_is_named(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_place(TWO, environment)
    assert sentence in str(caught.value)
