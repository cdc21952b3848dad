"""What a prepared dataset holds: a table for the terminal and a figure of lengths, from its manifest only."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sacpo_exp.data.preparation import PROMPTS, hash_prompt

#: Counts of `data.statistics` in the order of the table, with what they are called there.
COUNTS = {
    "rows": "rows",
    "prompts": "prompts",
    "better_is_not_safer": "better is not safer",
    "both_safe": "both safe",
    "mixed": "one safe, one not",
    "both_unsafe": "both unsafe",
    "duplicates": "duplicates",
    "ties": "ties (equal responses)",
    "prompts_cut": "prompts cut to max_prompt_length",
    "dialogues_cut": "dialogues cut to max_length",
}
QUANTILES = ("min", "50%", "90%", "99%", "max", "mean")
LENGTHS = {"prompt_tokens": "prompt", "completion_tokens": "completion"}


def find_leaked(folder: Path, prompts: Sequence[str]) -> list[str]:
    """Evaluation prompts that, but for case and white space, a prepared dataset trains on."""
    trained_on = set((folder / PROMPTS).read_text("utf-8").split())
    return [prompt for prompt in prompts if hash_prompt(prompt) in trained_on]


def format_dataset(name: str, metrics: dict[str, Any], leaks: Sequence[str], n_prompts: int) -> str:
    """Everything counted, training and held-out part side by side."""
    train, heldout = metrics["train"], metrics["heldout"]
    lines = [
        f"{name}, schema {metrics['schema']}, read as {metrics['view']}",
        f"{'':40}{'all':>10}{'train':>10}{'held out':>10}",
    ]
    lines += [_line(title, train[key], heldout[key]) for key, title in COUNTS.items() if key in train]
    lines += _format_labels(train, heldout)
    lines += _format_lengths(train)
    if categories := train.get("categories"):
        lines.append("harm categories: " + ", ".join(f"{key} {count}" for key, count in categories.items()))
    lines += [f"left out or turned around by {key}: {count} rows" for key, count in metrics["left_out"].items()]
    lines.append(f"evaluation prompts that it trains on: {len(leaks)} of {n_prompts}")
    lines += [f"  {prompt[:100]}" for prompt in leaks[:5]]
    return "\n".join(lines)


def _format_labels(train: dict[str, Any], heldout: dict[str, Any]) -> Iterator[str]:
    for criterion, labels in train["labels"].items():
        for kind in ("desirable", "undesirable"):
            yield _line(f"{kind} for {criterion}", labels[kind], heldout["labels"][criterion][kind])
        weight = labels["undesirable_weight"]
        shown = "none" if weight is None else f"{weight:.3f}"
        yield f"{'KTO weight of undesirable, ' + criterion:40}{'':10}{shown:>10}"


def _line(title: str, train: int, heldout: int) -> str:
    """Parts share no prompt, so that even prompts add up."""
    return f"{title:40}{train + heldout:>10}{train:>10}{heldout:>10}"


def _format_lengths(train: dict[str, Any]) -> Iterator[str]:
    for key, title in LENGTHS.items():
        quantiles = ", ".join(f"{name} {train[key][name]:.0f}" for name in QUANTILES)
        yield f"tokens per {title}: {quantiles}"


def lengths_figure(metrics: dict[str, Any], path: Path) -> Path:
    """Draw histograms of prompt and completion lengths of the training part, unless they are there already."""
    if path.is_file():
        return path
    import matplotlib.pyplot as plt
    import seaborn as sns

    sns.set_theme(style="whitegrid")
    figure, axes = plt.subplots(1, len(LENGTHS), figsize=(9, 3), layout="constrained")
    for (key, title), axis in zip(LENGTHS.items(), axes, strict=True):
        histogram = metrics["train"][f"{key}_histogram"]
        axis.bar(list(map(int, histogram["counts"])), histogram["counts"].values(), histogram["width"], align="edge")
        axis.set(xlabel=f"tokens per {title}", ylabel="number")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)
    return path
