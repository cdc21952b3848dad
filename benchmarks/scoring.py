"""Rates and Bradley–Terry ratings of many judgments with intervals, beside online Elo as older work computes it."""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
from composing import describe_machine

from sacpo_exp.errors import ConfigError, run_reporting_errors
from sacpo_exp.statistics.agreement import measure_positions
from sacpo_exp.statistics.comparisons import Comparisons, gather_comparisons
from sacpo_exp.statistics.intervals import Estimate, Resampling, bootstrap_mean
from sacpo_exp.statistics.ratings import K_FACTOR, SCALE, START, Ratings, fit_bradley_terry

#: As line/sacpo, src/evaluate/compute_scores.py: Elo anew so many times, each over so many shuffles of all judgments.
ELO_TRIALS, ELO_EPOCHS = 50, 10

#: Pairs of policies that meet on one prompt, each in both orders.
PAIRS_PER_PROMPT = 10
#: Log odds of the first answer, and the share of a prompt's verdicts that one draw decides.
ORDER_EFFECT, SHARED = 0.4, 0.3


@dataclass(frozen=True)
class Judgments:
    """Columns of names, as they come out of a ledger, and what they were drawn from."""

    left: list[str]
    right: list[str]
    outcome: list[float]
    shown: list[int]
    prompts: list[str]
    strengths: dict[str, float]


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judgments", type=int, default=100_000, help="single verdicts (default: %(default)s)")
    parser.add_argument("--policies", type=int, default=30, help="that meet each other (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1000, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=1, help="of Elo that are really run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the judgments (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write everything measured into this file")
    run_reporting_errors(partial(benchmark, parser.parse_args()))


def benchmark(arguments: argparse.Namespace) -> None:
    """Time each part once in this process, print the table, and write it into `--json`.

    Raises:
        ConfigError: an argument is wrong.
    """
    settings = {name: value for name, value in vars(arguments).items() if name != "json"}
    least = {"judgments": 2 * PAIRS_PER_PROMPT, "policies": 2, "rounds": 1, "trials": 1, "seed": 0}
    for name, bound in least.items():
        if settings[name] < bound:
            raise ConfigError(f"--{name} must be at least {bound}, but is {settings[name]}.")
    judgments = draw_judgments(arguments.judgments, arguments.policies, arguments.seed)
    seconds, ratings = measure_ours(judgments, arguments.rounds)
    elo = measure_elo(gather(judgments), arguments.trials, arguments.seed)
    rows = seconds | {"ours": sum(seconds.values()), "elo_trial": elo, "elo": elo * ELO_TRIALS}
    print_table(settings, rows, judgments, ratings)
    if arguments.json:
        versions = {package: metadata.version(package) for package in ("numpy", "scipy", "statsmodels")}
        content = {"settings": settings, "machine": describe_machine() | versions, "seconds": rows}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def draw_judgments(n: int, n_policies: int, seed: int) -> Judgments:
    """Random pairs on each prompt in both orders, from a judge that likes the first answer and some prompts' sides."""
    random = np.random.default_rng(seed)
    strengths = np.linspace(0, 2, n_policies)
    met = np.arange(n) // 2
    prompt, shown = met // PAIRS_PER_PROMPT, 1 - 2 * (np.arange(n) % 2)
    left = random.integers(0, n_policies, met[-1] + 1)
    right = (left + random.integers(1, n_policies, len(left))) % n_policies
    left, right = left[met], right[met]
    chance = 1 / (1 + np.exp(strengths[right] - strengths[left] - ORDER_EFFECT * shown))
    draw = np.where(random.random(n) < SHARED, random.random(n)[prompt], random.random(n))
    names = [f"policy {index:02d}" for index in range(n_policies)]
    return Judgments(
        [names[index] for index in left],
        [names[index] for index in right],
        (draw < chance).astype(float).tolist(),
        shown.tolist(),
        [f"prompt {index}" for index in prompt],
        dict(zip(names, strengths.tolist(), strict=True)),
    )


def gather(judgments: Judgments) -> Comparisons:
    return gather_comparisons(judgments.left, judgments.right, judgments.outcome, judgments.shown, judgments.prompts)


def measure_ours(judgments: Judgments, rounds: int) -> tuple[dict[str, float], Ratings]:
    """Seconds of each part, libraries and the reading of the columns among them, and the ratings."""
    resampling, seconds = Resampling(rounds, 0.95, 0), {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = work()
        seconds[name] = time.perf_counter() - start
        return result

    timed("libraries", lambda: (import_module("statsmodels.api"), import_module("scipy.optimize")))
    comparisons = timed("columns", partial(gather, judgments))
    timed("rates", lambda: [rate(comparisons, index, resampling) for index in range(len(comparisons.policies))])
    units = [" ".join(names) for names in zip(judgments.prompts, judgments.left, judgments.right, strict=True)]
    columns = (judgments.prompts, units, judgments.shown, judgments.outcome, [0] * len(units))
    timed("positions", lambda: measure_positions(zip(*columns, strict=True), resampling))
    baseline = comparisons.policies[0]
    fit = partial(fit_bradley_terry, comparisons, baseline, has_order_effect=True, confidence=0.95)
    return seconds, timed("ratings", fit)


def rate(comparisons: Comparisons, index: int, resampling: Resampling) -> Estimate:
    """Win rate of one policy against all others, its verdicts first averaged per prompt."""
    as_left, as_right = comparisons.left == index, comparisons.right == index
    won = np.where(as_left, comparisons.outcome, 1 - comparisons.outcome)[as_left | as_right]
    prompts = np.asarray(comparisons.prompt)[as_left | as_right]
    _, prompt, counts = np.unique(prompts, return_inverse=True, return_counts=True)
    return bootstrap_mean(np.bincount(prompt, won) / counts, resampling)


def measure_elo(comparisons: Comparisons, trials: int, seed: int) -> float:
    """Seconds per trial: judgment after judgment in plain Python, ten times through, shuffled before each."""
    random, order = np.random.default_rng(seed), np.arange(len(comparisons))
    start = time.perf_counter()
    for _ in range(trials):
        points = dict.fromkeys(comparisons.policies, START)
        for _ in range(ELO_EPOCHS):
            random.shuffle(order)
            play(comparisons.select(order), points)
    return (time.perf_counter() - start) / trials


def play(comparisons: Comparisons, points: dict[str, float]) -> None:
    """One pass through all judgments, moving `points`."""
    names = comparisons.policies
    columns = (comparisons.left.tolist(), comparisons.right.tolist(), comparisons.outcome.tolist())
    for left, right, outcome in zip(*columns, strict=True):
        own, other = names[left], names[right]
        change = K_FACTOR * (outcome - 1 / (1 + 10 ** ((points[other] - points[own]) / 400)))
        points[own] += change
        points[other] -= change


def print_table(settings: dict[str, Any], seconds: dict[str, float], judgments: Judgments, ratings: Ratings) -> None:
    """One line per part, and how far the ratings lie from what was drawn."""
    parts = {
        "libraries": "statsmodels, scipy: import",
        "columns": "names to columns",
        "rates": f"{settings['policies']} win rates, {settings['rounds']} rounds each",
        "positions": f"flips, first answers, ties, {settings['rounds']} rounds each",
        "ratings": "Bradley–Terry, order effect, clustered errors",
        "ours": "all of it",
        "elo_trial": f"online Elo, one trial of {ELO_EPOCHS} passes",
        "elo": f"online Elo, {ELO_TRIALS} trials (from {settings['trials']})",
    }
    print(f"{settings['judgments']} judgments, {settings['policies']} policies, one process\n")
    for name, title in parts.items():
        print(f"{title:50}{seconds[name]:10.2f} s")
    print(f"{'ratio of the last to all of ours':50}{seconds['elo'] / seconds['ours']:10.1f}")
    rated = [each for each in ratings.rated if each.policy != ratings.baseline]
    true = [START + SCALE * judgments.strengths[each.policy] for each in rated]
    held = sum(each.elo.low <= elo <= each.elo.high for each, elo in zip(rated, true, strict=True))
    half = np.mean([each.elo.high - each.elo.value for each in rated])
    print(f"\n{held} of {len(rated)} ratings hold the truth in their 95 % interval of ±{half:.0f} points on average")


if __name__ == "__main__":
    main()
