"""Three criteria of a user, from their files to the report."""

import csv
import itertools
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asking import Server, served
from judge_server import SEPARATOR
from tiny import stored, write_criterion, write_lines

from sacpo_exp.evaluation.records import VERDICTS, read_records
from sacpo_exp.method.policy import Policy, read_policy
from sacpo_exp.plan import LINEAGE

Command = Callable[..., Any]
SMALL = ("model=tiny", "base=none", "dataset.max_rows=24", "dataset.max_heldout_rows=4")
#: So much that policies differ in what they say.
SMALL += tuple(f"stage_defaults.{place}.learning_rate=0.02" for place in ("first", "second"))
#: Kinds of the evaluation prompts; one prompt counts for every criterion.
KINDS = ("benign", "factual", "risky") * 3 + (None,)


def honest_pairs() -> list[dict[str, str]]:
    """Sixty pairs whose labels are about honesty alone."""
    answers = {"chosen": "I do not know that.", "rejected": "Exactly 40 metres."}
    return [{"prompt": f"How tall is house {number} of the town?"} | answers for number in range(60)]


def ask_with(folder: Path, server: Server, criteria: list[str]) -> list[str]:
    """Prompts of all kinds, and a judge that has a text for each criterion."""
    template = folder / "template"
    template.mkdir()
    for name in criteria:
        text = SEPARATOR.join([f"About {name}: $prompt", "$first", "$second"])
        (template / f"{name}.txt").write_text(text, "utf-8")
    rows = [{"id": f"p{place}", "prompt": f"Question {place}?", "kind": kind} for place, kind in enumerate(KINDS)]
    prompts = write_lines(folder / "prompts.jsonl", rows)
    judge = ["judge=local", f"judge.base_url={server.url}", f"judge.template={template}", "judge.structured=false"]
    short = ["generation.max_new_tokens=16", "generation.kl_prompts=0", "policies=all"]
    return [*judge, *short, "prompts=local", f"prompts.path={prompts}"]


def read_verdicts(outputs: Path) -> dict[str, tuple[Policy, list[dict[str, Any]]]]:
    """By the policy's id its lineage and the verdicts on it."""
    return {
        found.labels["policy_id"]: (read_policy(found.labels[LINEAGE]), read_records(folder / VERDICTS))
        for folder, found in stored(outputs, "judgments")
    }


def run(cli: Command, name: str, *arguments: str) -> str:
    done = cli(name, *arguments)
    assert done.code == 0, done.stderr
    return str(done.stdout)


@pytest.mark.slow
def test_three_criteria_of_a_user_are_aligned_merged_judged_and_reported(cli: Command, tmp_path: Path) -> None:
    """Two use the labels of the shipped criteria the other way round, one has its own rows; no shipped one is left."""
    criteria = ["harmlessness", "honesty", "usefulness"]
    counted = {"harmlessness": "benign", "honesty": "factual", "usefulness": "risky"}
    labels = ("better_response_id", None, "safer_response_id")
    for name, letter, label in zip(criteria, "NTU", labels, strict=True):
        fields = {"preferred": label, "acceptable": None, "prompt_kinds": [counted[name]]}
        write_criterion(tmp_path / "own", name, letter, **fields)
    data = write_lines(tmp_path / "honesty.jsonl", honest_pairs())
    names = f"[{','.join(criteria)}]"
    plan = ["--config-dir", str(tmp_path / "own"), *SMALL, f"criterion={names}", "merge_weights=[0.2,0.3,0.5]"]
    plan += ["dataset@stages.honesty.dataset=local", f"stages.honesty.dataset.path={data}"]
    plan += ["stages.honesty.dataset.criterion=honesty", f"evaluated={names}"]
    plan += ["losses=[dpo,dpo,kto]", "stages.usefulness.beta=0.05", "earlier_betas=[0.2,0.1]"]

    run(cli, "train", *plan)
    with served(tmp_path / "server") as server:
        run(cli, "eval", *plan, *ask_with(tmp_path, server, criteria))
        asked = Counter(call["content"].split(":")[0].split()[-1] for call in server.calls())
    printed = run(cli, "report", "x=honesty", "y=usefulness")

    outputs = tmp_path / "outputs"
    judged = read_verdicts(outputs)
    first, second, third, merged = sorted((policy for policy, _ in judged.values()), key=lambda policy: policy.rank)[1:]
    assert [policy.criteria for policy in (first, second, third)] == [tuple(criteria[:n]) for n in (1, 2, 3)]
    assert (first.name, merged.name) == ("DPO(N) β=0.2", "P-SACPO DPO(N)→DPO(T)→KTO(U) weights=0.2/0.3/0.5")
    assert third.betas == (0.2, 0.1, 0.05)
    assert [stage.dataset for stage in third.stages] == ["demo", "local", "demo"]
    # Both orders of every pair that differs; a pair that two policies share is asked about once.
    pairs: dict[str, set[tuple[str, str, str]]] = {name: set() for name in criteria}
    for _, records in judged.values():
        for record, name in itertools.product(records, criteria):
            sides = (record["response"], record["opponent_response"])
            if record[name] is not None and sides[0] != sides[1]:
                pairs[name] |= {(record["prompt"], *sides), (record["prompt"], *sides[::-1])}
    assert asked == {name: len(found) for name, found in pairs.items()}
    assert all(pairs.values())

    for _, records in judged.values():
        for record, (name, kind) in itertools.product(records, counted.items()):
            assert (record[name] is not None) == (record["kind"] in (kind, None))
    with (outputs / "report" / "table.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(judged)
    assert {row[f"{name}_win_rate_n"] for row in rows for name in counted} == {"4"}
    assert {row["order"] for row in rows} >= {"none", "harmlessness_then_honesty_then_usefulness"}
    assert not [name for name in rows[0] if name.startswith(("helpfulness", "safety"))]
    assert "harmlessness on benign, honesty on factual, usefulness on risky prompts" in printed.lower()
    assert "helpfulness" not in printed
    assert "safety" not in printed
    page = (outputs / "report" / "report.html").read_text("utf-8")
    assert re.search(r"<title>DPO\(N\)→DPO\(T\)→KTO\(U\)[^<]*; honesty [^<]*; usefulness ", page)
