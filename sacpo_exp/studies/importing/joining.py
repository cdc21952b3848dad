"""What the files say together: every model's answers, who is the baseline, and who met whom on what."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sacpo_exp.config.loading import shipped_criteria
from sacpo_exp.data.checks import list_problems, show
from sacpo_exp.data.prompt_sets import Entry, Prompt, number_prompts
from sacpo_exp.data.responses import ImportedResponses
from sacpo_exp.errors import ConfigError, DataError
from sacpo_exp.studies.importing.files import JudgedPair, Results

Meetings = dict[tuple[str, str], list[JudgedPair]]


def gather_answers(results: Results) -> list[ImportedResponses]:
    """Everything that each model said, by the model's name.

    A prompt that was judged for one criterion only is of the kind that this criterion is scored on.

    Raises:
        DataError: a model has two answers to one prompt.
    """
    kinds = _find_kinds(results.judgments)
    said: dict[str, dict[str, str]] = defaultdict(dict)
    categories: dict[str, Any] = {}
    for generation in results.generations:
        for prompt, response in zip(generation.prompts, generation.responses, strict=True):
            categories[prompt["prompt"]] = prompt["category"]
            if said[generation.name].setdefault(prompt["prompt"], response) != response:
                raise DataError(
                    f"{generation.path} has another answer of {generation.name} than an earlier file to "
                    f"{show(prompt['prompt'])}. Try: one of them at a time"
                )
    problems = []
    for entry in results.judgments:
        pair = entry.value
        for name, answer in zip(pair.models, pair.answers, strict=True):
            if said[name].setdefault(pair.prompt, answer) != answer:
                problem = f"has another answer of {name} than an earlier row or file to {show(pair.prompt)}"
                problems.append((entry.where, entry.number, problem))
    if problems:
        raise DataError(list_problems(problems))
    return [
        ImportedResponses(name, _describe_prompts(list(answers), kinds, categories), list(answers.values()))
        for name, answers in sorted(said.items())
    ]


def _find_kinds(judgments: Sequence[Entry[JudgedPair]]) -> dict[str, str | None]:
    known, criteria = shipped_criteria(), defaultdict[str, set[str]](set)
    for entry in judgments:
        criteria[entry.value.prompt].add(entry.value.criterion)
    kinds = {text: [kind for name in found for kind in known[name].prompt_kinds] for text, found in criteria.items()}
    return {text: found[0] if len(found) == 1 else None for text, found in kinds.items()}


def _describe_prompts(
    texts: Sequence[str], kinds: dict[str, str | None], categories: dict[str, str | None]
) -> list[Prompt]:
    described = (
        {"prompt_id": None, "prompt": text, "kind": kinds.get(text), "category": categories.get(text)} for text in texts
    )
    return number_prompts(Entry("", number, prompt) for number, prompt in enumerate(described, 1))


def find_baseline(judgments: Sequence[Entry[JudgedPair]], wanted: str | None) -> str:
    """The model that win rates are against: the one that is named, or that all others met.

    Raises:
        ConfigError: nobody of that name was judged, no model met all others, or several did.
    """
    met: dict[str, set[str]] = defaultdict(set)
    for entry in judgments:
        first, second = entry.value.models
        met[first].add(second)
        met[second].add(first)
    names = ", ".join(sorted(met))
    if wanted is not None:
        if wanted not in met:
            raise ConfigError(f"`--baseline` must name one of the judged models ({names}), but is {wanted}.")
        return wanted
    found = sorted(name for name in met if len(met[name]) == len(met) - 1)
    if len(found) != 1:
        who = " and ".join(found) or "no model"
        example = found[0] if found else max(sorted(met), key=lambda name: len(met[name]))
        raise ConfigError(f"The baseline is not clear: {who} met all others of {names}. Try: --baseline {example}")
    return found[0]


def gather_meetings(judgments: Sequence[Entry[JudgedPair]], baseline: str) -> Meetings:
    """(policy, opponent) → rows; the baseline is always the opponent, else the earlier name.

    Raises:
        DataError: two rows are about the same.
    """
    meetings: Meetings = defaultdict(list)
    owners: dict[Any, Entry[JudgedPair]] = {}
    problems = []
    for entry in judgments:
        pair = entry.value
        owner = owners.setdefault((pair.criterion, pair.prompt, pair.models), entry)
        if owner is not entry:
            problem = f"judges the same as row {owner.number} of {owner.where}"
            problems.append((entry.where, entry.number, problem))
        opponent, policy = sorted(pair.models, key=lambda name: (name != baseline, name))
        meetings[policy, opponent].append(pair)
    if problems:
        raise DataError(list_problems(problems))
    return dict(sorted(meetings.items(), key=lambda item: (item[0][1] != baseline, item[0])))
