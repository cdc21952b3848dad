"""Criteria of a user, from their files to the report: a third one, and others in place of both that are shipped."""

import csv
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asking import Server, served
from judge_server import SEPARATOR
from judge_server import score as score_of
from safetensors.torch import load_file

from sacpo_exp.evaluation.contests import VERDICTS, read_records
from sacpo_exp.evaluation.judges.questions import fence
from sacpo_exp.method.policy import Policy, read_policy
from sacpo_exp.plan import LINEAGE
from sacpo_exp.store import Store

Command = Callable[..., Any]
SMALL = ("model=tiny", "base=none", "dataset.max_rows=24", "dataset.max_heldout_rows=4")
#: So much that policies differ in what they say.
SMALL += tuple(f"stage_defaults.{place}.learning_rate=0.02" for place in ("first", "second"))
#: Kinds of the evaluation prompts; one prompt counts for every criterion.
KINDS = ("benign", "factual", "risky") * 3 + (None,)
CRITERION = """# @package stages.{name}
defaults:
  - /dataset@dataset: null
criterion: {{name: {name}, letter: {letter}, preferred: {preferred}, acceptable: null, prompt_kinds: [{kinds}]}}
"""


def write_criterion(folder: Path, name: str, letter: str, preferred: str, kinds: str) -> None:
    """A user's criterion file below a folder for `--config-dir`."""
    (folder / "criterion").mkdir(parents=True, exist_ok=True)
    text = CRITERION.format(name=name, letter=letter, preferred=preferred, kinds=kinds)
    (folder / "criterion" / f"{name}.yaml").write_text(text, "utf-8")


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def honest_pairs() -> list[dict[str, str]]:
    """Sixty pairs whose labels are about honesty alone."""
    things = ("tower", "bridge", "mill", "hall", "gate", "wall", "inn", "barn", "tree", "clock", "port", "house")
    sizes = ("old", "new", "small", "large", "wooden")
    subjects = [f"{size} {thing}" for size, thing in itertools.product(sizes, things)]
    return [
        {
            "prompt": f"How tall is the {subject} of the town?",
            "chosen": "I do not know that, and you could ask in the town.",
            "rejected": f"The {subject} is exactly 40 metres tall, I have seen it.",
        }
        for subject in subjects
    ]


def ask_with(folder: Path, server: Server, criteria: list[str]) -> list[str]:
    """Prompts of all kinds, and a judge that has a text for each criterion."""
    template = folder / "template"
    template.mkdir()
    for name in criteria:
        text = SEPARATOR.join([f"About {name}: $prompt", "$first", "$second"])
        (template / f"{name}.txt").write_text(text, "utf-8")
    rows = [{"id": f"p{place}", "prompt": f"Question {place}?", "kind": kind} for place, kind in enumerate(KINDS)]
    prompts = write_rows(folder / "prompts.jsonl", rows)
    judge = ["judge=local", f"judge.base_url={server.url}", f"judge.template={template}", "judge.structured=false"]
    short = ["generation.max_new_tokens=16", "generation.kl_prompts=0", "policies=all"]
    return [*judge, *short, "prompts=local", f"prompts.path={prompts}"]


def read_verdicts(store: Store) -> dict[str, tuple[Policy, list[dict[str, Any]]]]:
    """By the policy's id its lineage and the verdicts on it."""
    judged = [(folder, found) for folder, found in store.manifests() if found.kind == "judgments"]
    return {
        found.labels["policy_id"]: (read_policy(found.labels[LINEAGE]), read_records(folder / VERDICTS))
        for folder, found in judged
    }


def expected_verdict(record: dict[str, Any]) -> float:
    """What follows from the server's scores of two texts, in whichever order they are shown."""
    own, other = (score_of(fence(record[side])) for side in ("response", "opponent_response"))
    return 0.5 if record["response"] == record["opponent_response"] or own == other else float(own > other)


def check_verdicts(records: list[dict[str, Any]], counted: dict[str, str]) -> dict[str, float]:
    """The win rate for each criterion, after a look at every verdict; `counted` has the kind of each criterion."""
    sums: dict[str, list[float]] = {name: [] for name in counted}
    assert len(records) == len(KINDS)
    for record in records:
        for name, kind in counted.items():
            if record["kind"] not in (kind, None):
                assert record[name] is None
                continue
            assert record[name]["verdict"] == expected_verdict(record)
            sums[name].append(expected_verdict(record))
    return {name: sum(values) / len(values) for name, values in sums.items()}


def read_table(outputs: Path) -> list[dict[str, str]]:
    with (outputs / "report" / "table.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def check_report(outputs: Path, store: Store, counted: dict[str, str]) -> list[dict[str, str]]:
    """The rows of the table, whose rates have to be those of the stored verdicts."""
    rows = read_table(outputs)
    judged = read_verdicts(store)
    by_family = {policy.family: check_verdicts(records, counted) for policy, records in judged.values()}
    assert len(rows) == len(by_family) == len(judged)
    for row in rows:
        rates = by_family[row["family"].removesuffix(" (baseline)")]
        assert {name: float(row[f"{name}_win_rate"]) for name in counted} == pytest.approx(rates)
        assert {name: row[f"{name}_win_rate_n"] for name in counted} == dict.fromkeys(counted, "4")
    return rows


def run(cli: Command, name: str, *arguments: str) -> str:
    done = cli(name, *arguments)
    assert done.code == 0, done.stderr
    return str(done.stdout)


@pytest.mark.slow
def test_three_criteria_are_aligned_merged_judged_and_reported(cli: Command, tmp_path: Path) -> None:
    criteria = ["helpfulness", "honesty", "safety"]
    counted = {"helpfulness": "benign", "honesty": "factual", "safety": "risky"}
    write_criterion(tmp_path / "own", "honesty", "T", "null", "factual")
    data = write_rows(tmp_path / "honesty.jsonl", honest_pairs())
    names = f"[{','.join(criteria)}]"
    plan = ["--config-dir", str(tmp_path / "own"), *SMALL, f"criterion={names}", "merge_weights=[0.2,0.3,0.5]"]
    plan += ["dataset@stages.honesty.dataset=local", f"stages.honesty.dataset.path={data}"]
    plan += ["stages.honesty.dataset.criterion=honesty", f"evaluated={names}"]

    run(cli, "train", *plan)
    with served(tmp_path / "server") as server:
        run(cli, "eval", *plan, *ask_with(tmp_path, server, criteria))
        asked = Counter(call["content"].split(":")[0].split()[-1] for call in server.calls())
    printed = run(cli, "report", "x=honesty", "y=safety", "examples=0")

    outputs = tmp_path / "outputs"
    store = Store(outputs / "store")
    judged = read_verdicts(store)
    first, second, third, merged = (policy for policy, _ in list(sorted_by_rank(judged))[1:])
    assert [policy.criteria for policy in (first, second, third)] == [tuple(criteria[:n]) for n in (1, 2, 3)]
    assert merged.name == "P-SACPO DPO(H)→DPO(T)→DPO(S) weights=0.2/0.3/0.5"
    assert third.betas == (0.1, 0.1, 0.1)
    assert [stage.dataset for stage in third.stages] == ["demo", "local", "demo"]
    check_merge(store, [first, second, third], merged, (0.2, 0.3, 0.5))

    # Both orders of every pair that differs; a pair that two policies share is asked about once.
    pairs: dict[str, set[tuple[str, str, str]]] = {name: set() for name in criteria}
    for _, records in judged.values():
        for record, name in itertools.product(records, criteria):
            sides = (record["response"], record["opponent_response"])
            if record[name] is not None and sides[0] != sides[1]:
                pairs[name] |= {(record["prompt"], *sides), (record["prompt"], *sides[::-1])}
    assert asked == {name: len(found) for name, found in pairs.items()}
    assert all(pairs.values())

    rows = check_report(outputs, store, counted)
    assert {row["order"] for row in rows} >= {"none", "helpfulness_then_honesty_then_safety"}
    assert all(name in printed for name in criteria)
    assert "helpfulness on benign, honesty on factual, safety on risky prompts" in printed.lower()
    folder = outputs / "report"
    assert (folder / "trade_off.png").stat().st_size > 0
    assert (folder / "trade_off.svg").stat().st_size > 0
    page = (folder / "report.html").read_text("utf-8")
    assert re.search(r"<title>DPO\(H\)→DPO\(T\)→DPO\(S\)[^<]*; honesty [^<]*; safety ", page)


def sorted_by_rank(judged: dict[str, tuple[Policy, Any]]) -> list[tuple[Policy, Any]]:
    return sorted(judged.values(), key=lambda entry: entry[0].rank)


def check_merge(store: Store, parts: list[Policy], merged: Policy, weights: tuple[float, ...]) -> None:
    """θ = Σ w_i·θ_i, tensor by tensor."""
    folders = {found.id: folder for folder, found in store.manifests()}
    loaded = [load_file(next(folders[part.id].rglob("model.safetensors"))) for part in (*parts, merged)]
    for name, tensor in loaded[-1].items():
        mean = sum(weight * part[name].double() for weight, part in zip(weights, loaded[:-1], strict=True))
        assert (tensor.double() - mean).abs().max() < 1e-5, name


@pytest.mark.slow
def test_other_criteria_take_the_place_of_both_that_are_shipped(cli: Command, tmp_path: Path) -> None:
    own = tmp_path / "own"
    # Turned around: what the labels of the first say is the field of the other, and so are the kinds of prompts.
    write_criterion(own, "usefulness", "U", "safer_response_id", "factual")
    write_criterion(own, "harmlessness", "N", "better_response_id", "benign")
    criteria, counted = ["harmlessness", "usefulness"], {"harmlessness": "benign", "usefulness": "factual"}
    names = f"[{','.join(criteria)}]"
    plan = ["--config-dir", str(own), *SMALL, f"criterion={names}", f"evaluated={names}", "merge_ratio=0.25"]
    plan += ["losses=[dpo,kto]", "stages.usefulness.beta=0.05", "earlier_betas=[0.2]"]

    run(cli, "train", *plan)
    with served(tmp_path / "server") as server:
        run(cli, "eval", *plan, *ask_with(tmp_path, server, criteria))
    printed = run(cli, "report", "examples=0")

    outputs = tmp_path / "outputs"
    store = Store(outputs / "store")
    first, second, merged = (policy for policy, _ in sorted_by_rank(read_verdicts(store))[1:])
    assert (first.name, second.name) == ("DPO(N) β=0.2", "DPO(N)→KTO(U) β=0.05")
    assert (merged.name, merged.criteria) == ("P-SACPO DPO(N)→KTO(U) q=0.25", tuple(criteria))
    check_merge(store, [first, second], merged, (0.75, 0.25))
    prepared = {found.recipe["criterion"]["name"]: folder for folder, found in find(store, "dataset")}
    assert prepared.keys() == set(criteria)

    rows = check_report(outputs, store, counted)
    assert {row["order"] for row in rows} == {"none", "harmlessness", "harmlessness_then_usefulness"}
    assert not [name for name in rows[0] if name.startswith(("helpfulness", "safety"))]
    assert "helpfulness" not in printed
    assert "safety" not in printed
    assert (outputs / "report" / "trade_off.png").stat().st_size > 0
    assert '"harmlessness"' in (outputs / "report" / "report.html").read_text("utf-8")


def find(store: Store, kind: str) -> list[tuple[Path, Any]]:
    return [(folder, found) for folder, found in store.manifests() if found.kind == kind]
