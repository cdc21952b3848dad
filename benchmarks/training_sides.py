"""The processes that benchmarks/training.py starts: `training_sides.py SIDE FOLDER`, settings and result in FOLDER."""

import functools
import importlib
import json
import math
import pkgutil
import resource
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from composing import compose

from sacpo_exp.config.models import FloatType
from sacpo_exp.config.schema import RunConfig
from sacpo_exp.config.stages import aligned_stages
from sacpo_exp.method.losses import View

SETTINGS, RESULT = "settings.json", "result.json"
LOADING, TOKENISING, REFERENCE = "loading", "tokenising", "reference log-probabilities"
FORWARD, BACKWARD, OPTIMIZER = "updates: forward", "updates: backward", "updates: clipping, optimizer"
UPDATES, SAVING, REST, HELDOUT = "updates: the rest", "saving", "the rest", "held-out rows"
PASSES = (REFERENCE, FORWARD, BACKWARD)
PARTS = (LOADING, TOKENISING, *PASSES, OPTIMIZER, UPDATES, SAVING, REST)
#: Settings that are places of this run and mean nothing after it.
FOLDERS = ("model_folder", "models", "data")

#: What each side imports anyway, imported before the clock starts.
IMPORTS = {
    "trl": ("datasets", "trl.scripts.dpo", "trl.scripts.utils", "trl.trainer.dpo_trainer"),
    "ours": (
        "datasets",
        "sacpo_exp.pipeline",
        "sacpo_exp.cluster",
        "sacpo_exp.training.stage",
        "trl.trainer.dpo_trainer",
        "trl.trainer.kto_trainer",
        "trl.trainer.sft_trainer",
    ),
}
#: (owner, function, part that its time belongs to), by side.
WATCHED = {
    "trl": [("trl.trainer.dpo_trainer", "create_model_from_path", LOADING)],
    "ours": [
        ("sacpo_exp.pipeline", "locate", LOADING),  # compares the model's files with their hashes
        ("sacpo_exp.pipeline", "prepare", TOKENISING),
        ("sacpo_exp.training.stage", "load_parent", LOADING),
        ("sacpo_exp.training.stage", "load_tokenizer", LOADING),
        ("sacpo_exp.store.store", "make_manifest", SAVING),
        ("sacpo_exp.store.store", "_replace_folder", SAVING),
    ],
}
#: The same for what both sides go through.
TRAINER, ACCELERATOR = "trl.trainer.dpo_trainer:DPOTrainer", "accelerate:Accelerator"
WATCHED_BY_BOTH = [
    (TRAINER, "_prepare_dataset", TOKENISING),
    (TRAINER, "_precompute_ref_logps", REFERENCE),
    (TRAINER, "train", UPDATES),
    (TRAINER, "compute_loss", FORWARD),
    (ACCELERATOR, "backward", BACKWARD),
    (ACCELERATOR, "clip_grad_norm_", OPTIMIZER),
    ("accelerate.optimizer:AcceleratedOptimizer", "step", OPTIMIZER),
    (TRAINER, "_maybe_log_save_evaluate", SAVING),
    (TRAINER, "save_model", SAVING),
    (TRAINER, "evaluate", HELDOUT),
]


class Stopwatch:
    """Seconds per part; of nested calls each counts only what is its own."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.trainer: Any = None
        self._inner = [0.0]
        self._parts = [REST]

    def watch(self, owner: Any, name: str, part: str) -> None:
        """Replace `owner.name` by itself with a clock around it."""
        original = getattr(owner, name)

        @functools.wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            self._inner.append(0.0)
            self._parts.append(HELDOUT if is_of_heldout(args) or self._parts[-1] == HELDOUT else part)
            try:
                return original(*args, **kwargs)
            finally:
                spent = time.perf_counter() - start
                self.seconds[self._parts.pop()] += spent - self._inner.pop()
                self._inner[-1] += spent
                if name == "train":
                    self.trainer = args[0]

        setattr(owner, name, timed)


def is_of_heldout(args: tuple[Any, ...]) -> bool:
    """Whether a call is about held-out rows: TRL's preparing functions take the split's name by position."""
    return any(isinstance(value, str) and value == "eval" for value in args)


def main() -> None:
    side, folder = sys.argv[1], Path(sys.argv[2])
    settings = json.loads((folder / SETTINGS).read_text("utf-8"))
    result = prepare(settings, folder) if side == "prepare" else measure(side, settings, folder)
    (folder / RESULT).write_text(json.dumps(result), "utf-8")


def configure(settings: dict[str, Any], outputs: Path) -> RunConfig:
    """One DPO stage for helpfulness, straight on the model as it came."""
    overrides = [f"model={settings['model']}", "base=none", "order=helpful_only", f"paths.outputs={outputs}"]
    overrides += [
        f"dataset.max_rows={settings['pairs']}",
        f"stage_defaults.first.num_train_epochs={settings['epochs']}",
    ]
    overrides += [f"stage_defaults.first.global_batch_size={settings['batch']}"]
    if settings["precision"]:
        overrides += [f"optimization.autocast={'null' if settings['precision'] == 'float32' else 'bfloat16'}"]
    return compose([*overrides, f"hardware.per_device_train_batch_size={settings['batch']}"])


def prepare(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The model's folder and the pairs as a file, for both sides, and the numbers that TRL's script is to be given."""
    from sacpo_exp.data.preferences import make_view
    from sacpo_exp.data.sources import load_parts
    from sacpo_exp.pipeline import locate, open_run

    run = open_run(configure(settings, folder))
    models = folder / "store" / "model"
    models.mkdir(parents=True)
    (stage,) = aligned_stages(run.config).values()
    pairs = make_view(load_parts(run.config.dataset)[0]["train"], View.pairs, stage.criterion)
    data = folder / "pairs"
    data.mkdir()
    (data / "train.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs), "utf-8")
    optimization, model_folder = run.config.optimization, locate(run, run.plan.model).path
    return {
        "model_folder": model_folder,
        "parameters": count_parameters(Path(model_folder)),
        "models": str(models.resolve()),
        "data": str(data),
        "pairs_found": len(pairs),
        "seed": run.config.seed,
        "learning_rate": stage.learning_rate,
        "beta": stage.beta,
        "max_length": optimization.max_length,
        "dtype": optimization.dtype.value,
        "bf16": optimization.autocast == FloatType.bfloat16,
        "matrix_peak": {dtype: measure_matrix_peak(dtype) for dtype in ("float32", "bfloat16")},
    }


def count_parameters(folder: Path) -> int:
    """Numbers in the weights of a model folder."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as weights:
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118


def measure_matrix_peak(dtype: str, size: int = 2048, least_seconds: float = 2.0) -> float:
    """TFLOP/s of the fastest of the products of two square matrices in some seconds, with torch's own threads."""
    import torch

    matrix, best, end = (
        torch.ones(size, size, dtype=getattr(torch, dtype)),
        math.inf,
        time.perf_counter() + least_seconds,
    )
    while time.perf_counter() < end:
        start = time.perf_counter()
        torch.mm(matrix, matrix)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e12


def measure(side: str, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run one side with the clock on; `seconds` leaves out imports and held-out rows, `peak_mib` leaves out nothing."""
    start = time.perf_counter()
    for module in IMPORTS[side]:
        importlib.import_module(module)
    imported = time.perf_counter()
    watch = Stopwatch()
    for owner, name, part in WATCHED[side]:
        watch.watch(pkgutil.resolve_name(owner), name, part)
    for owner, name, part in WATCHED_BY_BOTH:
        watch.watch(pkgutil.resolve_name(owner), name, part)
    (run_trl if side == "trl" else run_ours)(settings, folder)
    seconds = time.perf_counter() - imported
    heldout = watch.seconds.pop(HELDOUT, 0.0)
    parts = dict(watch.seconds) | {REST: seconds - heldout - sum(watch.seconds.values())}
    return {
        "seconds": seconds - heldout,
        "heldout_seconds": heldout,
        "import_seconds": imported - start,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,  # Linux counts in KiB
        "updates": watch.trainer.state.global_step,
        "tokens": watch.trainer._total_train_tokens,  # without padding, of both sequences of every pair
        "parts": parts,
    }


def run_ours(settings: dict[str, Any], folder: Path) -> None:
    """What `sacpo train` does, into a store that holds the model and nothing else."""
    from sacpo_exp.pipeline import open_run, train_policies

    (folder / "store").mkdir()
    (folder / "store" / "model").symlink_to(settings["models"])
    train_policies(open_run(configure(settings, folder)))


def run_trl(settings: dict[str, Any], folder: Path) -> None:
    """TRL's script itself, told only what makes it the same work."""
    from trl.scripts.dpo import main as train
    from trl.scripts.dpo import make_parser

    given = {
        "dataset_name": settings["data"],
        "model_name_or_path": settings["model_folder"],
        "output_dir": folder / "policy",
        "per_device_train_batch_size": settings["batch"],
        "num_train_epochs": settings["epochs"],
        "learning_rate": settings["learning_rate"],
        "beta": settings["beta"],
        "max_length": settings["max_length"],
        "seed": settings["seed"],
        "use_cpu": True,
    }
    if not settings["trl_precision"]:
        given |= {"dtype": settings["dtype"], "bf16": settings["bf16"]}
    command = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    train(*make_parser().parse_args_and_config(command, fail_with_unknown_args=False))


if __name__ == "__main__":
    main()
