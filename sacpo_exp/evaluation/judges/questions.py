"""Questions to a judge, made from template files.

A template is a text for each criterion, with places for the prompt and the responses. Whatever a policy wrote goes into
a fenced block that it can't end.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template as Text
from typing import Any, Final

from sacpo_exp.config.judges import OpenAIJudgeConfig
from sacpo_exp.errors import ConfigError
from sacpo_exp.evaluation.judges.client import find_base_url
from sacpo_exp.evaluation.judges.parsing import REFUSAL, response_format
from sacpo_exp.evaluation.ledger.records import Question
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.store import content_hash

# The bundled `default` has the judge compare before it scores: scores written first would only be defended by what
# follows. `paper` scores first, as its protocol does.
BUNDLED: Final = Path(__file__).parent / "templates"

PAIR_PLACES: Final = ("prompt", "first", "second")
REFUSAL_PLACES: Final = ("prompt", "response")
SCALE_PLACES: Final = ("low", "high")
REFUSAL_SCALE: Final = (0.0, 2.0)
EMPTY: Final = "(empty: nothing was written here)"


@dataclass(frozen=True)
class Template:
    """Texts of a judge's questions by criterion, and `refusal`; `name` is the last part of a user's path."""

    name: str
    texts: dict[str, str]

    def text(self, criterion: str) -> str:
        """Return the text for `criterion`, or raise ConfigError if there is none."""
        if criterion not in self.texts:
            usual = ", or judge.template=default" if (BUNDLED / "default" / f"{criterion}.txt").is_file() else ""
            raise ConfigError(
                f"`judge.template` {self.name} does not ask about {criterion}: it has no {criterion}.txt. "
                f"Try: judge.template=DIR, a folder with that file{usual}"
            )
        return self.texts[criterion]


def load_template(name_or_path: str, criteria: Iterable[Criterion]) -> Template:
    """Return a bundled template by its name, or the user's: a folder with a file `NAME.txt` for each criterion.

    A folder may have `refusal.txt` besides, and may lack some of them; a single file serves every criterion. A file is
    UTF-8 text with the places `$prompt`, `$first`, `$second` (for `refusal` `$prompt` and `$response`) and, if wanted,
    `$low` and `$high`. The part before the first line `---`, if there is one, is the system's message. The text should
    ask for the JSON object of `parsing.Scores`, or without `judge.structured` for two numbers in the first line.

    Raises:
        ConfigError: there is no such template, a file can't be read, or lacks a place or has an unknown one.
    """
    names = [criterion.text for criterion in criteria]
    bundled = sorted(folder.name for folder in BUNDLED.iterdir() if folder.is_dir())
    try:
        path = BUNDLED / name_or_path if name_or_path in bundled else Path(name_or_path).expanduser()
        is_folder = path.is_dir()
        files = {name: path / f"{name}.txt" for name in (*names, REFUSAL)} if is_folder else dict.fromkeys(names, path)
        texts = {name: file.read_text("utf-8-sig") for name, file in files.items() if file.exists()}
    except UnicodeDecodeError as error:
        raise ConfigError(f"`judge.template` {path} is not UTF-8 text: byte {error.start} can't be decoded.") from error
    except (OSError, RuntimeError, ValueError) as error:  # a name that is too long, a home that is not known
        raise ConfigError(f"`judge.template` {name_or_path!r} can't be read: {error}.") from error
    if not texts:
        raise ConfigError(
            f"`judge.template` must be {' or '.join(bundled)}, a file, or a folder with "
            f"{', '.join(f'{name}.txt' for name in (*names, REFUSAL))}, but is {name_or_path!r}."
        )
    for name, text in texts.items():
        _check(text, files[name], REFUSAL_PLACES if name == REFUSAL else PAIR_PLACES)
    return Template(path.resolve().name, texts)


def _check(text: str, file: Path, needed: tuple[str, ...]) -> None:
    """Raise for the first thing that would keep `text` from being filled."""
    if not Text(text).is_valid():
        raise ConfigError(f"`judge.template` {file} has a `$` without a name. Try: `$$` for a plain one")
    places, known = set(Text(text).get_identifiers()), {*needed, *SCALE_PLACES}
    if not places <= known or not places >= set(needed):
        listed = ", ".join(f"${name}" for name in needed)
        names = " ".join(f"${name}" for name in sorted(places)) or "none"
        raise ConfigError(f"`judge.template` {file} must have the places {listed}, $low and $high or not, has {names}.")
    if not _split_roles(text)[-1][1].strip():
        raise ConfigError(f"`judge.template` {file} has nothing after its line `---`, which would be the user's part.")


def _split_roles(text: str) -> list[tuple[str, str]]:
    parts = re.split(r"^---[ \t]*$", text, maxsplit=1, flags=re.MULTILINE)
    roles = ("system", "user") if len(parts) == 2 else ("user",)
    return [(role, part) for role, part in zip(roles, parts, strict=True) if role == "user" or part.strip()]


def fence(text: str) -> str:
    """Return `text` between tags that carry a hash of it: it can't hold its own closing tag."""
    tag = f"data-{content_hash(text)[:16]}"
    return f"<{tag}>\n{text if text.strip() else EMPTY}\n</{tag}>"


def pair_questions(
    template: Template,
    criterion: Criterion,
    prompt: Mapping[str, Any],
    response: str,
    opponent: str,
    judge: OpenAIJudgeConfig,
) -> list[Question]:
    """Return all calls about two different responses: both orders, `judge.repeats` times each.

    (response, opponent) and (opponent, response) give the same set of keys.
    """
    text, scale = template.text(criterion.text), (judge.min_score, judge.max_score)
    return [
        _make_question(template, criterion.name, text, prompt, shown, repeat, scale, judge)
        for shown in ((response, opponent), (opponent, response))
        for repeat in range(judge.repeats)
    ]


def refusal_question(
    template: Template, prompt: Mapping[str, Any], response: str, judge: OpenAIJudgeConfig
) -> Question:
    """Return one call that asks whether the response complies, as XSTest labels it (Röttger et al. 2024)."""
    return _make_question(template, REFUSAL, template.text(REFUSAL), prompt, (response,), 0, REFUSAL_SCALE, judge)


def _make_question(
    template: Template,
    criterion: str,
    text: str,
    prompt: Mapping[str, Any],
    responses: tuple[str, ...],
    repeat: int,
    scale: tuple[float, float],
    judge: OpenAIJudgeConfig,
) -> Question:
    places = REFUSAL_PLACES if criterion == REFUSAL else PAIR_PLACES
    values = {name: fence(shown) for name, shown in zip(places, (prompt["prompt"], *responses), strict=True)}
    values |= {name: f"{bound:g}" for name, bound in zip(SCALE_PLACES, scale, strict=True)}
    sampling = {
        "temperature": judge.temperature,
        judge.token_limit.value: judge.max_tokens,
        "seed": None if judge.seed is None else judge.seed + repeat,
        "reasoning_effort": judge.reasoning_effort,
        "response_format": response_format(criterion, scale) if judge.structured else None,
    }
    first, second = [*responses, ""][:2]
    return Question(
        criterion=criterion,
        prompt_id=prompt["prompt_id"],
        prompt=prompt["prompt"],
        first=first,
        second=second,
        repeat=repeat,
        model=judge.model,
        base_url=find_base_url(judge),
        sampling={name: value for name, value in sampling.items() if value is not None},
        template=f"{template.name}@{content_hash(text)[:12]}",
        # Each place is filled once: a `$second` in a response stays as it is.
        messages=tuple((role, Text(part).substitute(values).strip()) for role, part in _split_roles(text)),
        scale=scale,
    )
