"""Stops training on SIGTERM or Ctrl-C without losing progress."""

import enum
import logging
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

logger = logging.getLogger(__name__)

AGREE_S = 5.0  # approximate interval at which processes agree on whether to save and to stop


class Phase(enum.Enum):
    """The current phase of a training, which determines how a signal stops it."""

    IDLE = enum.auto()
    """There is nothing to save: the process exits immediately."""
    TRAINING = enum.auto()
    """There are unsaved steps: the training loop saves and exits."""
    EVALUATING = enum.auto()
    """The process exits after the last checkpoint is written in the background."""


class Stop:
    """Watches for SIGTERM, which is sent before a machine is preempted, and Ctrl-C.

    Python handlers are not enough: compiling the first step takes a minute, during which Python
    runs no handler. Therefore a thread waits for the signals. A second signal ends the process in
    any phase.

    Attributes:
      signal: the received signal, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._phase = Phase.IDLE
        self._is_saving: Callable[[], bool] = lambda: False

    def listen(self) -> None:
        """Installs the signal handling; must be called in the main thread.

        Signals that are already ignored stay ignored, such as Ctrl-C in a script's background jobs.
        """
        read, write = os.pipe()
        os.set_blocking(write, False)
        # The pipe receives signals even while the main thread is not running Python code.
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, _ignore)
        threading.Thread(target=self._watch, args=(read,), daemon=True).start()

    @property
    def exit_status(self) -> int:
        """0 after SIGTERM, which is a normal exit; 130 after Ctrl-C, as in shells."""
        return 130 if self.signal == signal.SIGINT else 0

    def idle(self) -> None:
        """Enters `Phase.IDLE`."""
        self._phase = Phase.IDLE

    def training(self) -> None:
        """Enters `Phase.TRAINING`."""
        self._phase = Phase.TRAINING

    def evaluating(self, is_saving: Callable[[], bool]) -> None:
        """Enters `Phase.EVALUATING`.

        Args:
          is_saving: returns whether a checkpoint is still being written.
        """
        self._is_saving = is_saving
        self._phase = Phase.EVALUATING

    def _must_wait(self) -> bool:
        """Returns whether the process must not exit yet."""
        phase = self._phase  # read once: the other thread may change it
        return phase is Phase.TRAINING or (phase is Phase.EVALUATING and self._is_saving())

    def _watch(self, pipe: int) -> None:
        self.signal = _read_signal(pipe)
        if self._must_wait():
            name = signal.Signals(self.signal).name
            logger.info("%s: saving before exit; send it again to exit immediately", name)
        while self._must_wait():
            if select.select([pipe], [], [], 0.1)[0] and _read_signal(pipe):
                os._exit(128 + self.signal)
        logger.info("stopped with nothing left to save; rerun the same command to resume")
        os._exit(self.exit_status)


class Turn(NamedTuple):
    """The actions after a step."""

    save: bool
    stop: bool


class Pace:
    """Decides when to save and when to stop, identically on all processes.

    A signal may reach only one process, and clocks differ, but all processes must save after the
    same step. They exchange their decisions about every `AGREE_S` seconds, at a step derived from
    the speed measured by the first process.

    Args:
      stop: this process's stop requests.
      every_minutes: interval between checkpoints; 0 disables timed checkpoints.
    """

    def __init__(self, stop: Stop, every_minutes: float):
        self._stop, self._every = stop, 60 * every_minutes or float("inf")
        self._saved = self._asked = time.monotonic()
        self._asked_step, self._next = 0, 0

    def saved(self) -> None:
        """Restarts the checkpoint interval."""
        self._saved = time.monotonic()

    def after(self, step: int) -> Turn:
        """Returns the actions after a step; must be called after every step."""
        now = time.monotonic()
        save, stop = now - self._saved >= self._every, self._stop.signal is not None
        if jax.process_count() == 1:
            return Turn(save, stop)
        if step < self._next:
            return Turn(False, False)
        seconds = (now - self._asked) / max(1, step - self._asked_step)
        mine = np.array([save, stop, seconds], np.float32)
        all_of = np.asarray(multihost_utils.process_allgather(mine))
        self._asked, self._asked_step = time.monotonic(), step
        self._next = step + max(1, int(AGREE_S / max(float(all_of[0, 2]), 1e-4)))
        return Turn(bool(all_of[0, 0]), bool(all_of[:, 1].any()))


def _ignore(number: int, frame: FrameType | None) -> None:
    """Does nothing; without a Python handler, signals are not written to the pipe."""


def _read_signal(pipe: int) -> int:
    """Reads the next SIGTERM or SIGINT from the pipe, which receives all handled signals."""
    while True:
        number = os.read(pipe, 1)[0]
        if number in (signal.SIGTERM, signal.SIGINT):
            return number
