"""Too little memory, said with what would need less."""

from collections.abc import Iterator
from contextlib import contextmanager

from sacpo_exp.config.memory import describe_memory
from sacpo_exp.config.schema import StageJob
from sacpo_exp.errors import LaunchError

#: What torch's allocator of main memory says; that of GPUs has an exception of its own.
SIGNS = ("DefaultCPUAllocator", "can't allocate memory", "Cannot allocate memory")


@contextmanager
def explaining_shortage(job: StageJob) -> Iterator[None]:
    """Turn an allocation that fails in the block into a sentence with the memory plan's figures.

    Raises:
        LaunchError: the device, or the machine, has too little memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        where = job.config.hardware.accelerator.value
        place = "the GPU" if where == "cuda" else "this machine"
        raise LaunchError(
            f"the {job.name} stage needs more memory than {place} has left. {describe_memory(job.config, job.name)}"
        ) from error


def is_shortage(error: BaseException) -> bool:
    """Whether an error is about memory that could not be had."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(sign in str(error) for sign in SIGNS)
