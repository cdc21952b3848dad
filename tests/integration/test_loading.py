"""Models in memory: one rank's share of the weights where ZeRO 3 divides them, and none of the stage before."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import make_run
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from sacpo_exp.cluster.groups import deepspeed_settings
from sacpo_exp.config.loading import write_job
from sacpo_exp.config.schema import StageJob
from sacpo_exp.pipeline import train_policies

#: Loads the parent of a job as a stage does, and prints by how many bytes the process grew: its own memory and pages of
#: files, at most, and its own memory afterwards.
LOAD = """
import sys, threading, time
from pathlib import Path
import deepspeed, torch, transformers
from sacpo_exp.config.loading import read_job
from sacpo_exp.training.adapters import load_parent
from sacpo_exp.training.models import Location

def look():
    lines = dict(line.split(":") for line in open("/proc/self/status"))
    return [int(lines[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile")]

def watch():
    while not done.wait(0.01):
        peaks[:] = map(max, peaks, look())

job = read_job(Path(sys.argv[1]))
deepspeed.init_distributed(dist_backend="gloo")
transformers.LlamaForCausalLM
torch.distributed.barrier()
before, done = look(), threading.Event()
peaks = look()
threading.Thread(target=watch, daemon=True).start()
policy = load_parent(job, Location(job.parent))
torch.distributed.barrier()
[p.detach().sum() for p in policy.parameters()]  # or pages of a mapped file would not count
after = look()
done.set()
print(*(peak - own for peak, own in zip(peaks, before)), after[0] - before[0])
"""
WIDTH, LAYERS = int(os.environ.get("SACPO_TEST_WIDTH", "768")), int(os.environ.get("SACPO_TEST_LAYERS", "12"))


def load_on_two(folder: Path, zero_stage: int) -> list[list[float]]:
    """What the two ranks print."""
    run = make_run(folder, "hardware=cpu_x2", f"hardware.zero_stage={zero_stage}", "base=none")
    settings = folder / "deepspeed.json"
    settings.write_text(json.dumps(deepspeed_settings(run.config.hardware)))
    unread = {"artifact_id": "", "view": "", "folder": "", "accumulation": 1, "per_device": 1}
    job = StageJob(run.config, "helpfulness", parent=str(folder / "model"), deepspeed=str(settings), **unread)
    path = write_job(job, folder)
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29531", "DS_ACCELERATOR": "cpu"}
    ranks = []
    for rank in ("0", "1"):
        environment = os.environ | common | {"RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", LOAD, str(path)]
        ranks.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    return [[float(word) for word in rank.communicate()[0].splitlines()[-1].split()] for rank in ranks]


@pytest.mark.slow
def test_a_rank_loads_less_than_a_whole_copy(tmp_path: Path) -> None:
    """With SACPO_TEST_WIDTH=2048 SACPO_TEST_LAYERS=16 the model has 1.2 B parameters."""
    sizes = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": WIDTH // 64}
    shape = LlamaConfig(vocab_size=32000, num_hidden_layers=LAYERS, **sizes)
    torch.manual_seed(0)
    policy = LlamaForCausalLM(shape)
    policy.save_pretrained(tmp_path / "model")
    copy = 4 * policy.num_parameters()
    del policy
    ranks = [[size / copy for size in rank] for rank in load_on_two(tmp_path, 3)]

    assert all(own < 0.7 for own, _, _ in ranks), ranks
    assert all(held < 0.6 for _, _, held in ranks), ranks
    assert ranks[1][1] < 0.1, ranks  # only the first rank reads the files


def test_the_model_of_a_stage_is_gone_before_the_next_one_is_loaded(tmp_path: Path) -> None:
    gc.collect()
    before = count_models()
    gc.disable()  # or a collection might come by chance
    try:
        train_policies(make_run(tmp_path, "base=none", "order=helpful_only"))
        assert count_models() == before
    finally:
        gc.enable()


def count_models() -> int:
    return sum(isinstance(each, PreTrainedModel) for each in gc.get_objects())
