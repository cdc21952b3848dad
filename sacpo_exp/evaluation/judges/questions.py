"""Questions to a judge, made from template files. Pure but for reading the files.

A template is a text for each criterion, with places for the prompt and the responses. Whatever a policy wrote goes into
a fenced block that it can't end.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template as Text
from typing import Any, Final

from sacpo_exp.config.judges import OpenAIJudgeConfig, ResponseFormat
from sacpo_exp.errors import ConfigError
from sacpo_exp.evaluation.judges.structure import label_schema, scores_schema
from sacpo_exp.evaluation.ledger.records import Question
from sacpo_exp.method.criteria import Criterion
from sacpo_exp.store import content_hash

# The bundled `default` has the judge compare before it scores, in a few sentences: scores written first would only be
# defended by what follows. They end the judgment in a line that names both responses, so that one cut off at
# `judge.max_tokens` has none, instead of half of one. `paper` scores first, as its protocol does.
BUNDLED: Final = Path(__file__).parent / "templates"

REFUSAL: Final = "refusal"
PAIR_PLACES: Final = ("prompt", "first", "second")
REFUSAL_PLACES: Final = ("prompt", "response")
SCALE_PLACES: Final = ("low", "high")
REFUSAL_SCALE: Final = (0.0, 2.0)
EMPTY: Final = "(empty: nothing was written here)"


@dataclass(frozen=True)
class Template:
    """What a judge is asked.

    Attributes:
        name: of a bundled template, or the last part of the user's path.
        texts: by criterion, and `refusal`; those that it has of the criteria that it was loaded for.
    """

    name: str
    texts: dict[str, str]

    def version(self, criterion: str) -> str:
        """Name and hash of the text for `criterion`; another text, another version.

        Raises:
            ConfigError: it has none.
        """
        return f"{self.name}@{content_hash(self._text(criterion))[:12]}"

    def fill(self, criterion: str, values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """(role, content) of the messages, each place filled once: a `$second` inside a response stays as it is.

        Raises:
            ConfigError: there is no text for `criterion`.
        """
        parts = _split_roles(self._text(criterion))
        return tuple((role, Text(text).substitute(values).strip()) for role, text in parts)

    def _text(self, criterion: str) -> str:
        if criterion not in self.texts:
            usual = ", or judge.template=default" if (BUNDLED / "default" / f"{criterion}.txt").is_file() else ""
            raise ConfigError(
                f"`judge.template` {self.name} does not ask about {criterion}: it has no {criterion}.txt. "
                f"Try: judge.template=DIR, a folder with that file{usual}"
            )
        return self.texts[criterion]


def load_template(name_or_path: str, criteria: Iterable[Criterion]) -> Template:
    """A bundled template by its name, or the user's: a folder with a file `NAME.txt` for each criterion.

    A folder may have `refusal.txt` besides, and may lack some of them; a single file serves every criterion. A file is
    UTF-8 text with the places `$prompt`, `$first`, `$second` (for `refusal` `$prompt` and `$response`) and, if wanted,
    `$low` and `$high`. What stands before the first line `---`, if there is one, is the system's message.

    Raises:
        ConfigError: there is no such template, a file can't be read, or lacks a place or has one that is not known.
    """
    names = [criterion.text for criterion in criteria]
    try:
        place = BUNDLED / name_or_path if name_or_path in _bundled_names() else Path(name_or_path).expanduser()
        if place.is_dir():
            files = {name: place / f"{name}.txt" for name in (*names, REFUSAL)}
        else:
            files = dict.fromkeys(names, place)
        files = {name: file for name, file in files.items() if file.exists()}
    except (OSError, RuntimeError) as error:  # a name that is too long, a home that is not known
        raise ConfigError(f"`judge.template` {name_or_path!r} can't be read: {error}.") from error
    if not files:
        raise ConfigError(
            f"`judge.template` must be {' or '.join(_bundled_names())}, a file, or a folder with "
            f"{', '.join(f'{name}.txt' for name in (*names, REFUSAL))}, but is {name_or_path!r}."
        )
    return Template(place.resolve().name, {criterion: _read(file, criterion) for criterion, file in files.items()})


def fence(text: str) -> str:
    """`text` between tags that carry a hash of it: it can't hold its own closing tag, which each letter changes."""
    tag = f"data-{content_hash(text)[:16]}"
    return f"<{tag}>\n{text if text.strip() else EMPTY}\n</{tag}>"


def pair_question(
    template: Template,
    criterion: Criterion,
    prompt: Mapping[str, Any],
    first: str,
    second: str,
    repeat: int,
    judge: OpenAIJudgeConfig,
    base_url: str,
) -> Question:
    """One call that asks for a score of each response.

    Args:
        template: as loaded.
        criterion: asked about.
        prompt: `prompt_id` and `prompt`.
        first, second: responses in the order in which the judge is to see them.
        repeat: from 0; a configured seed counts on by it.
        judge: its model, sampling and scale.
        base_url: of the server, without a slash at its end.

    Raises:
        ConfigError: the template has no text for the criterion.
    """
    shown = {"first": first, "second": second}
    scale = (judge.min_score, judge.max_score)
    return _make_question(template, criterion.name, criterion.text, prompt, shown, repeat, scale, judge, base_url)


def pair_questions(
    template: Template,
    criteria: Iterable[Criterion],
    prompt: Mapping[str, Any],
    response: str,
    opponent: str,
    judge: OpenAIJudgeConfig,
    base_url: str,
) -> list[Question]:
    """All calls about two different responses: both orders, `judge.repeats` times each, for each criterion.

    The same set of keys comes of (response, opponent) and of (opponent, response).
    """
    return [
        pair_question(template, criterion, prompt, *shown, repeat, judge, base_url)
        for criterion in criteria
        for shown in ((response, opponent), (opponent, response))
        for repeat in range(judge.repeats)
    ]


def refusal_question(
    template: Template, prompt: Mapping[str, Any], response: str, judge: OpenAIJudgeConfig, base_url: str
) -> Question:
    """One call that asks whether the response complies, as XSTest labels it (Röttger et al. 2024).

    Raises:
        ConfigError: the template has no `refusal.txt`.
    """
    return _make_question(template, REFUSAL, REFUSAL, prompt, {"response": response}, 0, REFUSAL_SCALE, judge, base_url)


def _make_question(
    template: Template,
    criterion: str,
    text: str,
    prompt: Mapping[str, Any],
    shown: Mapping[str, str],
    repeat: int,
    scale: tuple[float, float],
    judge: OpenAIJudgeConfig,
    base_url: str,
) -> Question:
    """The question about the responses of `shown`, by the names of their places."""
    fenced = {name: fence(text) for name, text in {"prompt": prompt["prompt"], **shown}.items()}
    ends = dict(zip(SCALE_PLACES, map(_write_number, scale), strict=True))
    first, second = [*shown.values(), ""][:2]
    return Question(
        criterion=criterion,
        prompt_id=prompt["prompt_id"],
        prompt=prompt["prompt"],
        first=first,
        second=second,
        repeat=repeat,
        model=judge.model,
        base_url=base_url,
        sampling=_sampling(judge, criterion, repeat, scale),
        template=template.version(text),
        messages=template.fill(text, fenced | ends),
        scale=scale,
    )


def _sampling(judge: OpenAIJudgeConfig, criterion: str, repeat: int, scale: tuple[float, float]) -> dict[str, Any]:
    """Keyword arguments of the call; what is null is left to the server."""
    is_free = judge.response_format == ResponseFormat.text
    chosen: dict[str, Any] = {
        "temperature": judge.temperature,
        judge.token_limit.value: judge.max_tokens,
        "seed": None if judge.seed is None else judge.seed + repeat,
        "reasoning_effort": judge.reasoning_effort,
        "response_format": None if is_free else label_schema() if criterion == REFUSAL else scores_schema(scale),
    }
    return {name: value for name, value in chosen.items() if value is not None}


def _write_number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _bundled_names() -> list[str]:
    return sorted(folder.name for folder in BUNDLED.iterdir() if folder.is_dir())


def _split_roles(text: str) -> list[tuple[str, str]]:
    parts = re.split(r"^---[ \t]*$", text, maxsplit=1, flags=re.MULTILINE)
    roles = ("system", "user") if len(parts) == 2 else ("user",)
    return [(role, part) for role, part in zip(roles, parts, strict=True) if role == "user" or part.strip()]


def _read(file: Path, criterion: str) -> str:
    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"`judge.template` {file} is not UTF-8 text: byte {error.start} can't be decoded.") from error
    except OSError as error:
        raise ConfigError(f"`judge.template` {file} can't be read: {error.strerror or error}.") from error
    _check(text, file, REFUSAL_PLACES if criterion == REFUSAL else PAIR_PLACES)
    return text


def _check(text: str, file: Path, needed: tuple[str, ...]) -> None:
    """Raise for the first thing that would keep `text` from being filled."""
    found = set(Text(text).get_identifiers())
    known = " ".join(f"${name}" for name in (*needed, *SCALE_PLACES))
    if not Text(text).is_valid():
        raise ConfigError(f"`judge.template` {file} has a `$` that begins no place. Try: `$$` for a plain one")
    if unknown := sorted(found - {*needed, *SCALE_PLACES}):
        raise ConfigError(f"`judge.template` {file} has a place that is not known: ${unknown[0]}. Known are {known}.")
    if missing := [f"${name}" for name in needed if name not in found]:
        raise ConfigError(f"`judge.template` {file} lacks {', '.join(missing)}, where the judge's material goes.")
    if not _split_roles(text)[-1][1].strip():
        raise ConfigError(f"`judge.template` {file} has nothing after its line `---`, which would be the user's part.")
