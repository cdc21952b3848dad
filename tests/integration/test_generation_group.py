"""Prompts answered by several real processes, as one process answers them."""

import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from processes import wait_until
from tiny import make_config

from sacpo_exp.config.hardware import HardwareConfig
from sacpo_exp.config.schema import GenerationConfig
from sacpo_exp.errors import ConfigError, LaunchError
from sacpo_exp.evaluation.engine import JOURNAL, Decoding, _add_noise, draw_seed
from sacpo_exp.evaluation.generation import GenerationJob, answer_all
from sacpo_exp.pipeline import locate, open_run
from sacpo_exp.training.models import Location

PROMPTS = ["Hi", "How do I bake bread for a large family at home?", "Why?", "What is ${this} about?", "Say a word."]


@pytest.fixture(scope="module")
def location(outputs: Path) -> Location:
    run = open_run(make_config(outputs))
    return locate(run, run.plan.model)


@pytest.fixture
def hardware(tmp_path: Path) -> HardwareConfig:
    return make_config(tmp_path, "hardware=cpu_x2").hardware


def job_of(location: Location, decoding: Decoding, prompts: list[str] = PROMPTS) -> GenerationJob:
    return GenerationJob(location, None, "float32", "cpu", None, decoding, "tiny answers", prompts)


def answer_anew(job: GenerationJob, folder: Path, numbers: list[int] | None = None):  # type: ignore[no-untyped-def]
    (folder / JOURNAL).unlink(missing_ok=True)  # of another job
    return job.answer(folder, numbers)


def answer_in_two(job: GenerationJob, hardware: HardwareConfig, folder: Path):  # type: ignore[no-untyped-def]
    folder.mkdir(exist_ok=True)
    return answer_all(job, GenerationConfig(), hardware, folder, folder.parent / "logs")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [None, 3])
def test_two_processes_are_as_one(
    location: Location, hardware: HardwareConfig, tmp_path: Path, seed: int | None
) -> None:
    job = job_of(location, Decoding(40, 2, (), seed))
    responses = answer_in_two(job, hardware, tmp_path / "two")
    assert responses == job.answer(tmp_path)
    assert [response.index for response in responses] == list(range(len(PROMPTS)))


def test_samples_hang_on_neither_batch_nor_shard(location: Location, tmp_path: Path) -> None:
    expected = answer_anew(job_of(location, Decoding(40, 5, (), 3)), tmp_path)
    assert answer_anew(job_of(location, Decoding(40, 2, (), 3)), tmp_path) == expected
    some = answer_anew(job_of(location, Decoding(40, 2, (), 3)), tmp_path, [1, 4])
    assert [response.tokens for response in some] == [expected[1].tokens, expected[4].tokens]
    twice = answer_anew(job_of(location, Decoding(40, 2, (), 3), ["Hi", "Hi"]), tmp_path)
    assert twice[0].tokens != twice[1].tokens


def test_samples_have_the_frequencies_of_the_softmax() -> None:
    scores = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    n = 4000
    draw = _add_noise([draw_seed(0, number) for number in range(n)])
    counts = draw(torch.empty(0), scores.repeat(n, 1)).argmax(-1).bincount(minlength=4)
    expected = n * scores[0].softmax(-1)
    assert float(((counts - expected) ** 2 / expected).sum()) < 16.3  # chi-square, 3 degrees of freedom, 0.1 %


@pytest.mark.slow
def test_an_error_of_a_process_is_one_message(hardware: HardwareConfig, tmp_path: Path) -> None:
    job = job_of(Location(str(tmp_path / "nowhere")), Decoding(4, 2))
    with pytest.raises(ConfigError, match="nowhere"):
        answer_in_two(job, hardware, tmp_path / "two")
    assert list_workers() == []


@pytest.mark.slow
def test_a_killed_process_ends_the_group(location: Location, hardware: HardwareConfig, tmp_path: Path) -> None:
    job = job_of(location, Decoding(150, 1), [f"Tell me about {number}." for number in range(12)])
    killer = threading.Thread(target=kill_when_at_work, args=(tmp_path / "two/shard-1-of-2/journal.jsonl",))
    killer.start()
    with pytest.raises(LaunchError, match=r"a process was ended by SIGKILL\. Its log: .*rank-1\.log"):
        answer_in_two(job, hardware, tmp_path / "two")
    killer.join()
    assert list_workers() == []
    journal = (tmp_path / "two/shard-1-of-2/journal.jsonl").read_text("utf-8").splitlines()
    assert journal
    assert answer_in_two(job, hardware, tmp_path / "two") == replace(job, decoding=Decoding(150, 8)).answer(tmp_path)


def kill_when_at_work(journal: Path) -> None:
    wait_until(lambda: journal.is_file() and journal.read_text("utf-8"))
    for process in list_workers():
        if process.environ().get("RANK") == "1":
            process.kill()


def list_workers() -> list[psutil.Process]:
    """Of this process, which may have other children."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "sacpo_exp.evaluation.generation" in child.cmdline()]
