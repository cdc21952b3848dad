"""Models in memory: a share of the weights under ZeRO 3, none of the stage before, and what is planned."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes import REPO, run_program
from tiny import make_config, make_run, train_run
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from sacpo_exp.cluster.groups import deepspeed_settings
from sacpo_exp.cluster.memory import explaining_shortage
from sacpo_exp.config.loading import write_config
from sacpo_exp.config.schema import StageJob
from sacpo_exp.errors import ConfigError, LaunchError
from sacpo_exp.reporting.planning import check_run

#: Loads the parent of a job as a stage does, and prints by how many bytes the process grew at most, and in the end;
#: pages of files that it has mapped count too.
LOAD = """
import sys
from pathlib import Path
import deepspeed, torch, transformers
from sacpo_exp.config.loading import read_job
from sacpo_exp.training.adapters import load_parent
from sacpo_exp.training.models import Location

def status(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) * 1024

job = read_job(Path(sys.argv[1]))
deepspeed.init_distributed(dist_backend="gloo")
transformers.LlamaForCausalLM
torch.distributed.barrier()
before = status("VmRSS")
policy = load_parent(job, Location(job.parent))
torch.distributed.barrier()
print(status("VmHWM") - before, status("VmRSS") - before)
"""
ONE_STAGE = ("base=none", "order=helpful_only")
WIDTH, LAYERS = int(os.environ.get("SACPO_TEST_WIDTH", "1024")), int(os.environ.get("SACPO_TEST_LAYERS", "24"))


def load_on_two(folder: Path) -> list[list[float]]:
    """What the two ranks of ZeRO 3 print."""
    run = make_run(folder, "hardware=cpu_x2", "hardware.zero_stage=3", "base=none")
    settings = folder / "deepspeed.json"
    settings.write_text(json.dumps(deepspeed_settings(run.config.hardware)))
    unread = {"artifact_id": "", "view": "", "folder": "", "accumulation": 1, "per_device": 1}
    job = StageJob(run.config, "helpfulness", parent=str(folder / "model"), deepspeed=str(settings), **unread)
    path = write_config(job, folder / "job.yaml")
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29531", "DS_ACCELERATOR": "cpu"}
    ranks = []
    for rank in ("0", "1"):
        environment = os.environ | common | {"RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", LOAD, str(path)]
        ranks.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    return [[float(word) for word in rank.communicate()[0].splitlines()[-1].split()] for rank in ranks]


@pytest.mark.slow
def test_a_rank_loads_little_more_than_its_half_of_the_weights(tmp_path: Path) -> None:
    """SACPO_TEST_WIDTH=2048 SACPO_TEST_LAYERS=16 for a model of 1.2 B parameters."""
    sizes = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": WIDTH // 64}
    policy = LlamaForCausalLM(LlamaConfig(vocab_size=32000, num_hidden_layers=LAYERS, **sizes))
    policy.save_pretrained(tmp_path / "model")
    whole = 4 * policy.num_parameters()
    del policy
    for most, kept in load_on_two(tmp_path):
        assert most < 0.7 * whole
        assert kept < 0.55 * whole


def test_the_model_of_a_stage_is_gone_before_the_next_one_is_loaded(outputs: Path) -> None:
    gc.collect()
    before = count_models()
    gc.disable()  # or a collection might come by chance
    try:
        train_run(outputs, *ONE_STAGE, "stages.helpfulness.num_train_epochs=0.5")
        assert count_models() == before
    finally:
        gc.enable()


def count_models() -> int:
    return sum(isinstance(each, PreTrainedModel) for each in gc.get_objects())


def test_only_what_is_still_to_be_trained_has_to_fit(outputs: Path) -> None:
    train_run(outputs, *ONE_STAGE)
    check_run(make_run(outputs, *ONE_STAGE, "hardware.device_memory=0.1"))
    longer = (*ONE_STAGE, "hardware.device_memory=0.1", "seed=1")
    with pytest.raises(
        ConfigError, match=r"the helpfulness stage needs 0\.\d GiB per process .*; this machine has 0\.1"
    ):
        check_run(make_run(outputs, *longer))
    check_run(make_run(outputs, *longer, "force=true"))


@pytest.mark.slow
def test_the_plan_of_the_embedded_model_is_within_a_fifth_of_what_is_measured(tmp_path: Path) -> None:
    options = ["--stages", "dpo", "--json", tmp_path / "found"]
    printed = run_program(tmp_path, sys.executable, REPO / "benchmarks/memory.py", *options)
    assert (tmp_path / "found").is_file()
    ratio = float(printed.splitlines()[-1].split()[-1])
    assert 0.8 <= ratio <= 1.2, printed


def test_memory_that_can_not_be_had_is_said_with_the_plan_and_what_would_need_less(tmp_path: Path) -> None:
    job = StageJob(make_config(tmp_path, "hardware.per_device_train_batch_size=4"), "helpfulness")
    with pytest.raises(LaunchError) as caught, explaining_shortage(job):
        torch.empty(2**50, dtype=torch.uint8)
    sentence = str(caught.value)
    assert sentence.startswith(
        "the helpfulness stage needs more memory than this machine has left. By the memory plan "
    )
    assert "GiB per process (" in sentence
    assert sentence.endswith("Try: hardware.per_device_train_batch_size=2 hardware.activation_checkpointing=true")


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    job = StageJob(make_config(tmp_path), "helpfulness")
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"), explaining_shortage(job):
        torch.ones(2, 3) @ torch.ones(2, 3)
