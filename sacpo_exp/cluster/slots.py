"""Processes that work on a sweep side by side, each with devices and threads of its own."""

import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from sacpo_exp.cluster.schedule import Schedule, Unit
from sacpo_exp.cluster.supervision import PATIENCE, die_with_parent, end_tree
from sacpo_exp.config.hardware import read_gpus
from sacpo_exp.errors import ConfigError
from sacpo_exp.stopping import catching_stops

INTERVAL = 0.1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Share:
    """What one slot may use: names of GPUs as CUDA_VISIBLE_DEVICES has them, and threads."""

    devices: tuple[str, ...]
    threads: int

    def environment(self) -> dict[str, str]:
        """The environment of the slot's process and of all that it starts."""
        return os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(self.devices), "OMP_NUM_THREADS": str(self.threads)}


def divide_machine(
    slots: int | None, threads: int | None, gpus: int, found: Sequence[str], environment: Mapping[str, str]
) -> list[Share]:
    """One share per slot.

    Args:
        slots: how many; None: as many as there are GPUs for, one where none are used.
        threads: per slot; None: OMP_NUM_THREADS, or else an equal part of the machine's cores.
        gpus: that a job needs; 0 on CPUs.
        found: names of this machine's GPUs that may be used.

    Raises:
        ConfigError: `slots` or `threads` is no positive number, or there are too few GPUs.
    """
    for name, value in (("slots", slots), ("threads", threads)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ConfigError(f"`hydra.launcher.{name}` must be a whole number of at least 1 or null, but is {value}.")
    if slots is None:
        slots = max(1, len(found) // gpus) if gpus else 1
    if slots * gpus > len(found):
        remedy = f"hydra.launcher.slots={len(found) // gpus}" if len(found) >= gpus else "hardware=cpu"
        raise ConfigError(
            f"`hydra.launcher.slots` = {slots} with {gpus} GPUs each needs {slots * gpus} GPUs, "
            f"but {len(found)} can be used here. Try: {remedy}"
        )
    given = environment.get("OMP_NUM_THREADS", "")
    threads = threads or (int(given) if given.isdigit() else max(1, len(os.sched_getaffinity(0)) // slots))
    return [Share(tuple(found[slot * gpus : (slot + 1) * gpus]), threads) for slot in range(slots)]


def find_gpus(environment: Mapping[str, str]) -> list[str]:
    """Names of the GPUs that may be used: those of CUDA_VISIBLE_DEVICES, or all of the machine by index."""
    if "CUDA_VISIBLE_DEVICES" in environment:
        return [name.strip() for name in environment["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
    return [str(index) for index in range(len(read_gpus()))]


@dataclass(frozen=True)
class Outcome:
    """How a unit ended; `message` is None if it went well, `is_known` is false for what nobody foresaw."""

    message: str | None
    exit_code: int
    is_known: bool = True


class Slot:
    """A process that takes one unit after another and imports torch once.

    After an error that nobody foresaw, which may have left anything behind, a fresh one follows.
    """

    def __init__(self, share: Share, is_warm: bool) -> None:
        self._share, self._is_warm = share, is_warm
        self._process: subprocess.Popen[bytes] | None = None
        self.unit: Unit | None = None
        self.started = 0.0

    def start(self) -> None:
        """Start the process, if none runs."""
        if self.is_dead():
            self.end()
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sacpo_exp.slot", *(["warm"] if self._is_warm else [])],
                env=self._share.environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C reaches the sweep, which asks its slots
                preexec_fn=partial(die_with_parent, os.getpid()),
            )

    def give(self, unit: Unit, order: Mapping[str, Any]) -> None:
        """Have it work on `unit`; `order` is what sacpo_exp.slot reads."""
        self.start()
        self.unit, self.started = unit, time.monotonic()
        try:
            self._stream("stdin").write(json.dumps(order).encode() + b"\n")
            self._stream("stdin").flush()
        except BrokenPipeError:
            pass  # it has died idle; `outcome` sees it

    def is_dead(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def outcome(self) -> Outcome:
        """What the process has to say of its unit, waiting for it; also of a process that died."""
        # Something that the dead process forked may hold the other end, and nothing would ever come.
        line = b"" if self.is_dead() and not select.select([self], [], [], 0)[0] else self._stream("stdout").readline()
        if line.endswith(b"\n"):
            outcome = Outcome(**json.loads(line))
            if not outcome.is_known:
                self.end()
            return outcome
        process = self._process
        code = process.wait() if process else 0
        self.end()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return Outcome(f"its process {how}.", 1)

    def fileno(self) -> int:
        return int(self._stream("stdout").fileno())

    def ask_to_stop(self) -> None:
        if self._process is not None:
            self._process.terminate()

    def end(self) -> None:
        """End the process and all that it has started."""
        if self._process is not None:
            end_tree(self._process)
            self._stream("stdin").close()
            self._stream("stdout").close()
            self._process = None

    def _stream(self, name: str) -> Any:
        return getattr(self._process, name)


class Audience(Protocol):
    """Who knows what a unit means and tells the user how it went."""

    def order(self, unit: Unit) -> Mapping[str, Any]: ...

    def started(self, unit: Unit) -> None: ...

    def ended(self, unit: Unit, outcome: Outcome, lost: Sequence[Unit], seconds: float) -> None: ...


def run_units(schedule: Schedule, slots: Sequence[Slot], audience: Audience, grace: float) -> None:
    """Work a schedule off. Failures are handed to `audience` and stop only what depends on them.

    Asked to stop, it starts nothing more, passes the request on, and gives `grace` seconds for checkpoints.

    Raises:
        Interrupted: this process was asked to stop; all slots have ended.
    """
    deadline = float("inf")
    with catching_stops() as request:
        request.set_training(True)  # from here on a signal is answered below
        try:
            for slot in slots[: schedule.total]:
                slot.start()
            while time.monotonic() < deadline:
                if not request.is_asked():
                    _hand_out(schedule, slots, audience)
                elif deadline == float("inf"):
                    deadline = time.monotonic() + grace + PATIENCE
                    _for_each(slots, Slot.ask_to_stop)
                busy = [slot for slot in slots if slot.unit is not None]
                if not busy:
                    break
                ready = select.select(busy, [], [], INTERVAL)[0] or [slot for slot in busy if slot.is_dead()]
                for slot in ready:
                    _take_back(schedule, slot, audience, request.is_asked())
        finally:
            _for_each(slots, Slot.end)


def _hand_out(schedule: Schedule, slots: Sequence[Slot], audience: Audience) -> None:
    for slot in slots:
        if slot.unit is None and (unit := schedule.take()) is not None:
            audience.started(unit)
            slot.give(unit, audience.order(unit))


def _take_back(schedule: Schedule, slot: Slot, audience: Audience, is_stopping: bool) -> None:
    unit, outcome = slot.unit, slot.outcome()
    slot.unit = None
    if unit is None or (is_stopping and outcome.message is not None):
        return
    lost: list[Unit] = []
    if outcome.message is None:
        schedule.finish(unit)
    else:
        lost = schedule.fail(unit)
    audience.ended(unit, outcome, lost, time.monotonic() - slot.started)


def _for_each(slots: Sequence[Slot], act: Callable[[Slot], None]) -> None:
    for slot in slots:
        act(slot)
