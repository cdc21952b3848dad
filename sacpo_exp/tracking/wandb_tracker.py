"""wandb: online if logged in, else offline, as when its server can't be reached; nothing about this machine is sent."""

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import wandb

from sacpo_exp.config.schema import LogModel, TrackedRun, WandbConfig, WandbMode
from sacpo_exp.tracking.runs import Cell, first_line, log_once

log = logging.getLogger(__name__)

#: Seconds that a run waits for the server at its start and at its end; what was not sent by then stays on the disk.
PATIENCE = 15.0
#: Variables by which the agent of a wandb sweep names the one run that it expects.
SWEEP = ("WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_RUN_ID")
#: Filled when the server has not taken a run, so that later stages do not wait for it again.
_unreachable: list[str] = []


class WandbTracker:
    """A run of wandb whose id is the policy's, so that training, merging, evaluation and reports continue it."""

    name = "wandb"

    def __init__(self, settings: WandbConfig, run: TrackedRun, outputs: Path) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        # wandb's reports about itself delay the end of a process by 20 s if the server does not answer.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self._settings, self._tracked, self._outputs = settings, run, outputs
        self._described = {**run.config, "artifact": run.id, "parents": run.parents}
        self._tags = [tag[:64] for tag in [*run.tags, *settings.tags]]  # the longest that wandb takes
        self._run = self._start()
        if not self._run.offline:  # tags of another experiment stay
            self._run.tags = tuple(dict.fromkeys([*(self._run.tags or ()), *self._tags]))
        self._run.define_metric("train/global_step")
        for name in ("train/*", "eval/*"):
            self._run.define_metric(name, step_metric="train/global_step")
        if self._settings.log_model != LogModel.none:
            # The first that is not taken ends this: the others would not be taken either.
            all(self._is_taken(f"the parent {parent}", partial(self._use, parent)) for parent in self._tracked.parents)

    def log_scores(self, scores: Mapping[str, float]) -> None:
        self._run.summary.update(dict(scores))

    def has_curves(self) -> bool:
        return bool(self._run.step)  # of a run that the server knows, or that this process has logged to

    def log_row(self, row: Mapping[str, Any]) -> None:
        numbers = {name: value for name, value in row.items() if isinstance(value, int | float) and name != "step"}
        # Names as transformers' callback gives them.
        names = {name: f"eval/{name[5:]}" if name.startswith("eval_") else f"train/{name}" for name in numbers}
        if numbers:
            self._run.log({names[name]: value for name, value in numbers.items()} | {"train/global_step": row["step"]})

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        table = wandb.Table(columns=list(columns), data=[list(row) for row in rows])
        # Bound first, or wandb would add an artifact whose record holds the path of a copy in the home folder.
        table.bind_to_run(self._run, name, self._run.step)
        self._run.log({name: table})

    def log_figure(self, name: str, path: Path) -> None:
        self._run.log({name: wandb.Image(str(path))})

    def log_policy(self, folder: Path, metrics: Mapping[str, Any]) -> None:
        if self._settings.log_model == LogModel.none:
            return
        policy = wandb.Artifact(self._tracked.id, "policy", metadata=self._described | {"metrics": dict(metrics)})
        if self._settings.log_model == LogModel.full:
            for path in sorted(path for path in folder.iterdir() if path.is_file()):
                policy.add_file(str(path))  # a copy, since the folder is renamed when the stage is whole
        self._is_taken("the policy", lambda: self._run.log_artifact(policy))

    def finish(self, is_complete: bool) -> None:
        self._run.finish(exit_code=0 if is_complete else 1)

    def _start(self) -> Any:
        """Begin the run. The run that a sweep's agent expects is the last stage's; others would overwrite it."""
        hidden = {} if self._tracked.is_last else {name: os.environ.pop(name) for name in SWEEP if name in os.environ}
        if hidden or "WANDB_SWEEP_ID" in os.environ:
            wandb.teardown()  # it reads the variables only once
        try:
            mode = choose_mode(self._settings)
            if mode == "online" and not _unreachable:
                try:
                    return self._init(mode)
                except Exception as error:  # a wrong key, no network, a server that is down: none of it stops a run
                    _unreachable.append(first_line(error))
                    log.warning("tracks   offline, for wandb did not take the run: %s", first_line(error))
                    wandb.teardown(exit_code=1)  # its process would keep the id of this run as one in use
            mode = "offline" if mode == "online" else mode
            if mode == "offline":
                folder = os.path.relpath(self._outputs / "wandb")
                log_once(f"tracks   offline; upload with: wandb sync {folder}/offline-run-*")
            return self._init(mode)
        finally:
            os.environ.update(hidden)

    def _init(self, mode: str) -> Any:
        self._outputs.mkdir(parents=True, exist_ok=True)
        settings, tracked = self._settings, self._tracked
        return wandb.init(
            project=settings.project,
            entity=settings.entity,
            dir=str(self._outputs),
            id=tracked.id,
            name=" · ".join(filter(None, [settings.name, tracked.name])),
            notes=settings.notes,
            group=tracked.group,
            job_type=tracked.kind,
            tags=None if mode == "online" else self._tags,
            config=self._described,
            mode=mode,  # type: ignore[arg-type]
            resume="allow" if mode == "online" else None,
            settings=wandb.Settings(
                # Host, user, program, its arguments, the git remote, what the terminal shows: none of it is sent.
                x_disable_meta=True,
                x_disable_machine_info=True,
                disable_git=True,
                disable_code=True,
                console="off",
                host="",
                silent=True,
                init_timeout=PATIENCE,
                finish_timeout=PATIENCE,
            ),
        )

    def _use(self, parent: str) -> None:
        """Record an artifact as one that this run was made from."""
        draft = wandb.Artifact(parent, self._tracked.parents[parent], metadata={"id": parent})
        if self._run.offline:  # where only drafts can be named, by no public function of wandb's
            self._run._log_artifact(draft, is_user_created=True, use_after_commit=True)
            return
        try:
            self._run.use_artifact(f"{draft.name}:latest")
        except Exception:  # never logged there, or by another project
            self._run.use_artifact(draft)

    def _is_taken(self, what: str, act: Callable[[], object]) -> bool:
        """Return whether wandb takes an artifact within `PATIENCE`; it would wait for a dead server for ever."""
        errors: list[Exception] = []

        def attempt() -> None:
            try:
                act()
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=attempt, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        if thread.is_alive():
            errors.append(TimeoutError(f"no answer in {PATIENCE:.0f} s"))
        if errors:
            log.warning("tracks   wandb did not take %s, the run goes on: %s", what, first_line(errors[0]))
        return not errors


def choose_mode(settings: WandbConfig) -> str:
    """Return wandb's name of the mode; `auto` is WANDB_MODE, else online if logged in and offline if not."""
    if settings.mode != WandbMode.auto:
        return str(settings.mode.value)
    if mode := os.environ.get("WANDB_MODE"):
        return mode
    try:  # finds a key of WANDB_API_KEY or of `wandb login`; the server is not asked
        return "online" if wandb.login(prompt=False, verify=False) else "offline"
    except Exception:  # a key of a wrong form, of which the start of the run warns
        return "online"
