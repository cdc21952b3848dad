"""A made-up store of the size that a page has to bear: 30 policies, 212 prompts, a judge that sometimes fails."""

import json
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from world import HELPFULNESS, SAFETY, World

from sacpo_exp.evaluation.responding import policy_labels
from sacpo_exp.plan import Fingerprints, make_plan
from sacpo_exp.store import ArtifactSpec, Store

N_POLICIES = 30
N_PROMPTS = 212  # the paper's 129 and 83
CATEGORIES = ("cooking", "travel", "gardens", "medicine", "money", "weapons", "privacy", "animals")
#: Text that would run if it ever became markup.
HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'><!-- \u2028"


def fill_store(outputs: Path, configure: Any, order: str) -> World:
    """Policies of one order with several β and q, judged with random answers, of which one is hostile."""
    world = World.__new__(World)
    world.outputs, world.store, world.seconds = outputs, Store(outputs / "store"), 0
    world.folder = outputs / "report"
    chance = random.Random(0)
    made = list_policies(configure, order)
    updates = [{"step": step, "loss": 0.7 - 0.002 * step, "rewards/margins": 0.01 * step} for step in range(1, 301)]
    updates.append({"step": 300, "eval_loss": 0.2, "eval_runtime": 3.0})
    for spec in made.values():
        logged = [{"step": 150, "prompt": "Who?", "response": HOSTILE}]
        files = {"metrics.jsonl": updates, "completions.jsonl": logged} if spec.kind == "stage" else {}
        world.make(spec, files)
    policies = [spec for spec in made.values() if spec.kind in ("stage", "merge")][:N_POLICIES]
    world.baseline = policies[0]
    words = [f"{a}{b}" for a in ("lor", "ip", "dol", "am", "sed") for b in ("em", "sum", "or", "et", "iam", "quis")]
    # About 1000 characters, as long as 256 tokens are.
    texts = {}
    for spec in policies:
        texts[spec.id] = [" ".join(chance.choices(words, k=chance.randrange(100, 300))) for _ in range(N_PROMPTS)]
    texts[policies[1].id][:2] = [HOSTILE, "half a character: \ud83d"]
    for place, spec in enumerate(policies):
        skill = [0.45 + 0.4 * chance.random() + 0.004 * place for _ in range(2)]
        records = [make_record(chance, n, spec, texts, policies[0].id, skill) for n in range(N_PROMPTS)]
        labels = policy_labels(spec) | {"name": spec.kind, "judge": "openai", "judge_id": "judge-1"}
        labels |= {"opponent_id": policies[0].id, "baseline_id": policies[0].id, "answers": "c0de" * 16}
        labels |= {"prompts": "sacpo", "prompts_id": "5eed" * 16, "has_zero": [], "judge_key": "judge-1"}
        labels |= {"criteria": [HELPFULNESS.to_judge(), SAFETY.to_judge()]}
        world.make(ArtifactSpec("judgments", spec.slug, labels, (spec.id,), labels), {"verdicts.jsonl": records})
    return world


def list_policies(configure: Any, order: str) -> dict[str, ArtifactSpec]:
    """Everything that sweeps over β and q make, by id, as `train` plans it."""
    made: dict[str, ArtifactSpec] = {}
    config = configure("model=nano", f"order={order}", "merge_ratio=0.5")
    last = list(config.stages)[-1]
    for beta in (0.4, 0.3, 0.2, 0.1, 0.05, 0.025, 0.01):
        stages = config.stages | {last: replace(config.stages[last], beta=beta)}
        for ratio in (0.25, 0.5, 0.75):
            overrides = ("model=nano", f"order={order}", f"beta={beta}", f"merge_ratio={ratio}")
            fingerprints = Fingerprints({"dataset": "rows"}, "prompts", "judge", overrides=overrides)
            plan = make_plan(replace(config, beta=beta, stages=stages, merge_ratio=ratio), fingerprints)
            made |= {spec.id: spec for spec in plan.training()}
    return made


def make_record(
    chance: random.Random, n: int, spec: ArtifactSpec, texts: dict[str, list[str]], baseline: str, skill: list[float]
) -> dict[str, Any]:
    kind = "benign" if n < 129 else "risky"
    judged = judge(chance, 0.5 if spec.id == baseline else skill[kind == "risky"])
    record = {"prompt_id": f"p{n}", "prompt": f"Question {n}? {HOSTILE if n == 1 else ''}", "kind": kind}
    record |= {"category": CATEGORIES[n % len(CATEGORIES)], "finish_reason": "stop", "opponent_n_tokens": 250}
    record |= {"response": texts[spec.id][n], "opponent_response": texts[baseline][n]}
    record |= {"n_tokens": len(texts[spec.id][n]) // 4}
    record |= {"is_refusal": kind == "risky" and chance.random() < skill[1] / 2}
    return record | {"helpfulness": None, "safety": None, "helpfulness" if kind == "benign" else "safety": judged}


def judge(chance: random.Random, skill: float) -> dict[str, Any]:
    """Two judgments in both orders, of which a few fail."""
    is_failed = chance.random() < 0.02
    verdicts = [None if is_failed else float(chance.random() < skill) for _ in range(2)]
    state = "failed" if is_failed else "ok"
    usual = {"repeat": 0, "state": state}
    singles = [usual | {"is_first": not place, "verdict": verdict} for place, verdict in enumerate(verdicts)]
    mean = None if is_failed else sum(map(float, filter(None, verdicts))) / 2
    return {"state": state, "score": None, "opponent_score": None, "verdict": mean, "singles": singles}


def read_titles(page: Path) -> list[str]:
    """The titles of the page's tables."""
    return re.findall("<summary>(.*?)</summary>", page.read_text("utf-8"))


def read_data(page: Path) -> Any:
    """What the page's script reads."""
    text = page.read_text("utf-8").split('<script type="application/json" id="data">')[1]
    return json.loads(text.split("</script>")[0])
