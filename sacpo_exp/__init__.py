"""Stepwise alignment of language models under a safety constraint (SACPO and P-SACPO, arXiv 2404.11049)."""

import os
import sys

__version__ = "0.1.0"

# By default threads of OpenMP spin so long while they wait that training beside other work is slowed many times over.
# This file runs before torch is imported in every command, worker and slot.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(os.environ):
    os.environ["GOMP_SPINCOUNT"] = "1000"
# Tensors in pages of 2 MiB, where the kernel grants them: a page of 4 KiB takes 10 µs at its first use on a virtual
# machine, and training needs a million of them (benchmarks/training.py). Read by torch at its first tensor.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
# Progress bars of libraries, which read this at their import, write into a log as rarely as ours.
if sys.stderr is None or not sys.stderr.isatty():
    os.environ.setdefault("TQDM_MININTERVAL", "30")
