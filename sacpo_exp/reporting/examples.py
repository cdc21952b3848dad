"""Responses of a policy and its ancestors to the same prompts, for the terminal."""

import random
import textwrap
from collections.abc import Sequence

from sacpo_exp.reporting.collect import Evaluation, Group
from sacpo_exp.statistics.win_rate import Record

WIDTH = 120
LONGEST = 600  # characters of a text that are shown


def format_examples(group: Group, count: int, seed: int) -> str:
    """Return `count` prompts with the responses of the baseline and of the policies that `find_line` finds."""
    policies = find_line(group)
    records = [{record["prompt_id"]: record for record in policy.records} for policy in policies]
    parts = []
    for prompt_id in choose_prompts(records, count, seed):
        own = [by_prompt[prompt_id] for by_prompt in records]
        texts = [(policy.title, record["response"]) for policy, record in zip(policies, own, strict=True)]
        if not policies[0].is_baseline:
            texts.insert(0, ("baseline", own[0]["opponent_response"]))
        lines = [_wrap(f"{own[0]['kind'] or 'prompt'}: {own[0]['prompt']}", "")]
        parts.append("\n".join([*lines, *(_wrap(f"{title}: {text}", "  ") for title, text in texts)]))
    return "\n\n".join(["Examples", *parts]) + "\n" if parts else ""


def find_line(group: Group) -> list[Evaluation]:
    """Return the evaluated policy of the last stage, of several the newest, after its evaluated ancestors."""
    last = max(group.policies, key=lambda match: (match.policy.rank, match.created, match.id))
    line, waiting = set[str](), [last.id]
    while waiting:
        line.add(policy_id := waiting.pop())
        waiting += group.parents[policy_id]
    return [policy for policy in group.policies if policy.id in line]


def choose_prompts(records: Sequence[dict[str, Record]], count: int, seed: int) -> list[str]:
    """Return ids of `count` prompts that all policies have, in a random order; different responses come first."""
    shared = sorted(set.intersection(*(set(by_prompt) for by_prompt in records)))
    random.Random(seed).shuffle(shared)

    def are_equal(prompt_id: str) -> bool:
        responses = {by_prompt[prompt_id]["response"] for by_prompt in records}
        return responses == {records[0][prompt_id]["opponent_response"]}

    return sorted(shared, key=are_equal)[:count]


def _wrap(text: str, indent: str) -> str:
    """Return `text` in lines of at most 120 columns, shortened, without characters that would move the cursor."""
    shown = text if len(text) <= LONGEST else text[:LONGEST] + " …"
    lines = ["".join(c if c.isprintable() else " " for c in line) for line in shown.splitlines() if line.strip()]
    return "\n".join(
        textwrap.fill(line, WIDTH, initial_indent=indent + "  " * (index > 0), subsequent_indent=indent + "  ")
        for index, line in enumerate(lines)
    )
