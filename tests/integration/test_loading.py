"""Models in memory: one rank's share of the weights where ZeRO 3 divides them, and none of the stage before."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import make_run, train_run
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from sacpo_exp.cluster.groups import deepspeed_settings
from sacpo_exp.config.loading import write_config
from sacpo_exp.config.schema import StageJob

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
        train_run(outputs, "base=none", "order=helpful_only", "stages.helpfulness.num_train_epochs=0.5")
        assert count_models() == before
    finally:
        gc.enable()


def count_models() -> int:
    return sum(isinstance(each, PreTrainedModel) for each in gc.get_objects())
