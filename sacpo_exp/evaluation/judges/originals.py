"""The paper's own questions to its judge, read from a user's copy of its source, which is parsed and never run."""

import ast
import re
from collections.abc import Iterable
from pathlib import Path
from string import Formatter
from typing import Final

from sacpo_exp.errors import ConfigError
from sacpo_exp.method.criteria import HELPFULNESS, SAFETY

#: Names in src/constant.py of https://github.com/line/sacpo, the places in them, and where they state their scale.
NAMES: Final = {HELPFULNESS: "HELPFULNESS", SAFETY: "HARMLESSNESS"}
PLACES: Final = {"question": "$prompt", "answer1": "$first", "answer2": "$second"}
SCALE: Final = re.compile(r"between (\d+)\s*(?:-|–|and|to)\s*(\d+)")
#: The script beside it that asks, with the greatest number of tokens of an answer.
CALLER: Final = Path("evaluate", "gpt4_evaluate.py")
#: A question in our notation, the scale that it states, and its caller's limit, None without that file.
Original = tuple[str, tuple[float, float], int | None]


def read_originals(file: Path, criteria: Iterable[str]) -> dict[str, Original]:
    """Return the paper's questions by criterion, as far as it has them.

    Raises:
        ConfigError: a text, a place or a scale is missing.
        OSError, SyntaxError, ValueError: the file can't be read, or is no Python.
    """
    texts, limits, originals = {}, [], dict[str, Original]()
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            texts[getattr(target, "id", "")] = str(node.value.value)
    caller = file.parent / CALLER
    for part in ast.walk(ast.parse(caller.read_text("utf-8"))) if caller.is_file() else ():
        if isinstance(part, ast.keyword) and part.arg == "max_tokens":
            limits.append(int(ast.literal_eval(part.value)))
    names = {
        name: [f"{NAMES[name]}_{role}_PROMPT" for role in ("SYSTEM", "USER")] for name in criteria if name in NAMES
    }
    if missing := [name for pair in names.values() for name in pair if name not in texts]:
        found = ", ".join(texts) or "none"
        raise ConfigError(f"`judge.template` {file} must define {', '.join(missing)}, but of constants it has {found}.")
    for criterion, (system, user) in names.items():
        parts, scale = list(Formatter().parse(texts[user])), SCALE.search(texts[user])
        if scale is None or {name for _, name, _, _ in parts if name is not None} != PLACES.keys():
            wanted = f"the places {', '.join(f'{{{name}}}' for name in PLACES)} and a scale, as `between 1-10`"
            raise ConfigError(f"`judge.template` {file} must have {wanted}, in {user}.")
        text = "".join(plain.replace("$", "$$") + PLACES.get(name or "", "") for plain, name, _, _ in parts)
        text = texts[system].replace("$", "$$") + f"\n---\n{text}"
        originals[criterion] = (text, (float(scale[1]), float(scale[2])), min(limits, default=None))
    return originals


def describe_wording(template: str) -> str | None:
    """Return what a report says of questions that are the paper's, or ours in their place; None for others."""
    if template != "paper" and not template.endswith(".py"):
        return None
    words = "in our own words, after the paper's protocol" if template == "paper" else "the paper's own questions"
    return f"The judge is asked {words}; the paper's judge, gpt-4-0125-preview, was shut down on 2026-03-26."
