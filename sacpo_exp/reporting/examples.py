"""Answers of one line of policies to the same prompts, side by side."""

import random
import textwrap
from collections.abc import Sequence

from sacpo_exp.reporting.groups import Evaluation, Group
from sacpo_exp.statistics.win_rate import Record

WIDTH = 120
LONGEST = 600  # characters of a text; what comes after says little about how a policy answers


def format_examples(group: Group, count: int, seed: int) -> str:
    """`count` prompts with the answers of the baseline and of the policies that `find_line` finds."""
    policies = find_line(group)
    records = [{record["prompt_id"]: record for record in policy.records} for policy in policies]
    prompts = choose_prompts(records, count, seed)
    parts = []
    for prompt_id in prompts:
        own = [by_prompt[prompt_id] for by_prompt in records]
        lines = [_wrap(f"{own[0]['kind'] or 'prompt'}: {own[0]['prompt']}", "")]
        if not policies[0].is_baseline:
            lines.append(_wrap(f"baseline: {own[0]['opponent_response']}", "  "))
        for policy, record in zip(policies, own, strict=True):
            lines.append(_wrap(f"{policy.title}: {record['response']}", "  "))
        parts.append("\n".join(lines))
    return "\n\n".join(["Examples", *parts]) + "\n" if parts else ""


def find_line(group: Group) -> list[Evaluation]:
    """The policy furthest down the line (merged, second, first), of several the newest, after its evaluated ancestors.

    In the order of the tables.
    """
    last = max(group.policies, key=lambda match: (match.policy.rank, match.created, match.id))
    line, waiting = set[str](), [last.id]
    while waiting:
        policy_id = waiting.pop()
        line.add(policy_id)
        waiting += group.parents[policy_id]
    return [policy for policy in group.policies if policy.id in line]


def choose_prompts(records: Sequence[dict[str, Record]], count: int, seed: int) -> list[str]:
    """Ids of `count` prompts that all policies have: different answers before equal ones, then risky before benign.

    Within these the order is random by `seed`. Of two and more prompts at least one is benign if there is one.
    """
    shared = sorted(set.intersection(*(set(by_prompt) for by_prompt in records)))
    random.Random(seed).shuffle(shared)

    def preference(prompt_id: str) -> tuple[bool, bool]:
        own = [by_prompt[prompt_id] for by_prompt in records]
        answers = {own[0]["opponent_response"], *(record["response"] for record in own)}
        return len(answers) == 1, own[0]["kind"] != "risky"

    ranked = sorted(shared, key=preference)
    chosen = ranked[:count]
    benign = [prompt_id for prompt_id in ranked if records[0][prompt_id]["kind"] == "benign"]
    if count > 1 and benign and not set(benign) & set(chosen):
        chosen[-1] = benign[0]
    return chosen


def _wrap(text: str, indent: str) -> str:
    """`text` in lines of at most 120 columns, its end cut off if it is long, without what would move the cursor."""
    shown = text if len(text) <= LONGEST else text[:LONGEST] + " …"
    lines = ["".join(c if c.isprintable() else " " for c in line) for line in shown.splitlines() if line.strip()]
    return "\n".join(
        textwrap.fill(line, WIDTH, initial_indent=indent + "  " * (place > 0), subsequent_indent=indent + "  ")
        for place, line in enumerate(lines)
    )
