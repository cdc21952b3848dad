"""wandb: online if logged in, offline if not or when it can't be reached; nothing about this machine is sent."""

import functools
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sacpo_exp.config.tracking import LogModel, TrackedRun, WandbConfig, WandbMode
from sacpo_exp.tracking.interface import Cell, first_line
from sacpo_exp.tracking.opening import Opening, say_once

log = logging.getLogger(__name__)

#: Seconds that a run waits for the server at its begin and at its end; what was not sent by then lies on the disk.
PATIENCE = 15.0
#: By which the agent of a wandb sweep names the one run that it expects.
SWEEP = ("WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_RUN_ID")
#: Set once the server has not taken a run: the stages to come do not wait for it again.
_unreachable: list[str] = []


class WandbTracker:
    """A run of wandb whose id is the artifact's, so that a resumed stage continues it."""

    name = "wandb"

    def __init__(self, opening: Opening) -> None:
        # Read by transformers' callback, which would upload checkpoints.
        os.environ["WANDB_LOG_MODEL"] = "false"
        os.environ.setdefault("WANDB_SILENT", "true")
        # Its reports about itself, for which a process would wait 20 s at its end where the server does not answer.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self._settings: WandbConfig = opening.settings
        self._tracked = opening.run
        self._run = _start(opening)
        self._run.define_metric("train/global_step")
        self._use_parents()

    def adopt(self, callback: Any) -> None:
        """transformers' callback takes the run that is open."""

    def log_scores(self, scores: Mapping[str, float]) -> None:
        self._run.summary.update(dict(scores))

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        import wandb

        table = wandb.Table(columns=list(columns), data=[list(row) for row in rows])
        # Bound before, or wandb would add an artifact whose record holds the path of a copy in the home folder.
        table.bind_to_run(self._run, name, self._run.step)
        self._run.log({name: table})

    def log_figure(self, name: str, path: Path) -> None:
        import wandb

        self._run.log({name: wandb.Image(str(path))})

    def log_policy(self, folder: Path, metrics: Mapping[str, Any]) -> None:
        if self._settings.log_model == LogModel.none:
            return
        policy = _artifact(self._tracked.id, "policy", _describe(self._tracked) | {"metrics": dict(metrics)})
        if self._settings.log_model == LogModel.full:
            for path in sorted(path for path in folder.iterdir() if path.is_file()):
                policy.add_file(str(path))  # a copy, for the folder is renamed when the stage is whole
        self._is_taken("the policy", lambda: self._run.log_artifact(policy))

    def finish(self, is_complete: bool) -> None:
        self._run.finish(exit_code=0 if is_complete else 1)

    def _use_parents(self) -> None:
        """Lineage: what the run is made from."""
        if self._settings.log_model == LogModel.none:
            return
        for parent, kind in self._tracked.parents.items():
            draft = _artifact(parent, kind, {"id": parent})
            if not self._is_taken(f"the parent {parent}", functools.partial(self._use_parent, draft)):
                return  # nor will the others be

    def _is_taken(self, what: str, act: Callable[[], object]) -> bool:
        """Whether wandb takes an artifact. It asks the server first, for ever if that does not answer; one that does
        not costs the artifact, not the curves.
        """
        errors: list[Exception] = []
        done = threading.Thread(target=_keep_error, args=(act, errors), daemon=True)
        done.start()
        done.join(PATIENCE)
        if done.is_alive():
            errors.append(TimeoutError(f"no answer in {PATIENCE:.0f} s"))
        if errors:
            log.warning("tracks   wandb did not take %s, the run goes on: %s", what, first_line(errors[0]))
        return not errors

    def _use_parent(self, draft: Any) -> None:
        """Offline only drafts can be named, which is not in wandb's public way."""
        if self._run.offline:
            self._run._log_artifact(draft, is_user_created=True, use_after_commit=True)
            return
        try:
            self._run.use_artifact(f"{draft.name}:latest")
        except Exception:  # never logged there, or by another project
            self._run.use_artifact(draft)


def _keep_error(act: Callable[[], object], errors: list[Exception]) -> None:
    try:
        act()
    except Exception as error:
        errors.append(error)


def choose_mode(settings: WandbConfig) -> str:
    """wandb's own name of the mode: `auto` is what WANDB_MODE says, else online if logged in and offline if not."""
    if settings.mode != WandbMode.auto:
        return str(settings.mode.value)
    return os.environ.get("WANDB_MODE") or ("online" if _is_logged_in() else "offline")


def _is_logged_in() -> bool:
    """Whether wandb knows a key, from WANDB_API_KEY or from `wandb login`; the server is not asked."""
    import wandb

    try:
        return wandb.login(prompt=False, verify=False)
    except Exception:  # a key of a wrong form: the start of the run says so
        return True


def _start(opening: Opening) -> Any:
    with _sweep_s_run_only(opening.run):
        return _start_by_mode(opening, choose_mode(opening.settings))


@contextmanager
def _sweep_s_run_only(run: TrackedRun) -> Iterator[None]:
    """Give the run that a sweep's agent expects to the last stage, and to no other: the others would overwrite it."""
    import wandb

    hidden = {} if run.is_last else {name: os.environ.pop(name) for name in SWEEP if name in os.environ}
    if hidden or "WANDB_SWEEP_ID" in os.environ:
        wandb.teardown()  # for it reads them once
    try:
        yield
    finally:
        os.environ.update(hidden)


def _start_by_mode(opening: Opening, mode: str) -> Any:
    if mode == "online" and not _unreachable:
        try:
            return _init(opening, mode)
        except Exception as error:  # a wrong key, no network, a server that is down: none of it stops a run
            reason = first_line(error)
            _unreachable.append(reason)
            log.warning("tracks   offline, for wandb did not take the run: %s", reason)
            _forget_service()
    mode = "offline" if mode == "online" else mode
    if mode == "offline":
        folder = os.path.relpath(opening.outputs / "wandb")
        say_once(f"tracks   offline; upload with: wandb sync {folder}/offline-run-*")
    return _init(opening, mode)


def _init(opening: Opening, mode: str) -> Any:
    import wandb

    settings: WandbConfig = opening.settings
    opening.outputs.mkdir(parents=True, exist_ok=True)
    return wandb.init(
        project=settings.project,
        entity=settings.entity,
        dir=str(opening.outputs),
        id=opening.run.id,
        name=opening.run.id,
        group=opening.group,
        job_type=opening.run.kind,
        tags=[tag[:64] for tag in opening.run.tags],  # wandb takes no longer ones
        config=_describe(opening.run),
        mode=mode,  # type: ignore[arg-type]
        resume="allow" if opening.is_continued and mode == "online" else None,
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


def _forget_service() -> None:
    """End wandb's process, which keeps the id of a run that it could not begin as one in use."""
    import wandb

    wandb.teardown(exit_code=1)


def _describe(run: TrackedRun) -> dict[str, Any]:
    return {**run.config, "artifact": run.id, "parents": run.parents}


def _artifact(artifact_id: str, kind: str, metadata: dict[str, Any]) -> Any:
    import wandb

    return wandb.Artifact(artifact_id, kind, metadata=metadata)
