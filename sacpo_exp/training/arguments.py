"""Trainer arguments that a user sets with `trainer.KEY=VALUE`: checked against the fields of TRL's configurations."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from enum import Enum
from typing import Any, get_args, get_type_hints

from sacpo_exp.config.messages import OWNED
from sacpo_exp.config.schema import RunConfig, StageConfig
from sacpo_exp.config.stages import loss_of


def find_argument_problems(config: RunConfig) -> list[str]:
    """Return what is wrong with the trainer arguments of a configuration; TRL is imported only if there are any."""
    given = [(f"trainer.{name}", value, config.stages) for name, value in config.trainer.items()]
    for stage_name, stage in config.stages.items():
        own = {stage_name: stage}
        given += [(f"stages.{stage_name}.trainer.{name}", value, own) for name, value in stage.trainer.items()]
    if owned := [_explain_owned(key) for key, _, _ in given if _name(key) in OWNED]:
        return owned
    problems = [sentence for key, value, stages in given if stages for sentence in _check(key, value, stages)]
    return problems or list(dict.fromkeys(_check_evaluations(config)))


def _check_evaluations(config: RunConfig) -> Iterator[str]:
    """Yield what is wrong with when held-out rows are scored, which transformers refuses late or reads differently."""
    for stage in config.stages.values():
        arguments = config.trainer | stage.trainer
        steps = arguments.get("eval_steps")
        if steps is not None and arguments.get("eval_strategy") != "steps":
            yield f"`trainer.eval_steps={steps}` has no effect alone. Try: trainer.eval_strategy=steps beside it"
        elif steps is not None and not (0 < steps < 1 or (steps >= 1 and steps % 1 == 0)):
            rule = "a whole number of updates, or a share of all updates below 1"
            yield f"`trainer.eval_steps` must be {rule}, but is {steps}."


def _name(key: str) -> str:
    return key.rsplit(".", 1)[-1]


def _explain_owned(key: str) -> str:
    instead = OWNED[_name(key)]
    if instead is None:
        return f"`{key}` is set by the project and can't be changed."
    stage = key.split(".")[1] if key.startswith("stages.") else "NAME"
    return f"`{key}` has a key of its own. Try: {instead.replace('NAME', stage)}"


def _check(key: str, value: Any, stages: Mapping[str, StageConfig]) -> Iterator[str]:
    """Yield what is wrong with one argument for the trainers of these stages."""
    from sacpo_exp.training.trl_adapter import config_class

    kinds = {name: config_class(loss_of(stage).trainer) for name, stage in stages.items()}
    known = {kind: [field.name for field in fields(kind) if field.name not in OWNED] for kind in kinds.values()}
    name = _name(key)
    having = [stage for stage, kind in kinds.items() if name in known[kind]]
    lacking = " or ".join(kind.__name__ for kind, names in known.items() if name not in names)
    if not having:
        near = difflib.get_close_matches(name, [entry for names in known.values() for entry in names], n=1)
        hint = f" Did you mean `{key.removesuffix(name)}{near[0]}`?" if near else ""
        yield f"`{key}` is not an argument of {lacking}.{hint}"
    elif lacking:
        own = " ".join(f"stages.{stage}.{key}=VALUE" for stage in having)
        yield f"`{key}` is for all stages, but is not an argument of {lacking}. Try: {own}"
    else:
        yield from {reason: None for kind in known if (reason := _explain_type(key, value, get_type_hints(kind)[name]))}


def _explain_type(key: str, value: Any, hint: Any) -> str | None:
    """Return one sentence if a value is not of an argument's type, or not of its enumeration."""
    from pydantic import TypeAdapter, ValidationError

    choices = [kind for kind in get_args(hint) if isinstance(kind, type) and issubclass(kind, Enum)]
    try:
        TypeAdapter(choices[0] if choices else hint).validate_python(value, strict=not choices)
    except ValidationError as error:
        reasons = " or ".join(dict.fromkeys(entry["msg"].removeprefix("Input should be ") for entry in error.errors()))
        return f"`{key}` can't be {value!r}: it must be {reasons}."
    return None
