"""Ends a training when it is told to, without losing what it has learned."""

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

AGREE_S = 5.0  # about how often several processes agree on whether to save and to stop


class Phase(enum.Enum):
    """What a training is doing, which decides how a signal ends it."""

    IDLE = enum.auto()
    """There is nothing to save: the process ends at once."""
    TRAINING = enum.auto()
    """There are unsaved steps: the training saves and ends itself."""
    EVALUATING = enum.auto()
    """The process ends once the last checkpoint is written in the background."""


class Stop:
    """Whether SIGTERM, which machines send that are about to be taken away, or Ctrl-C came.

    A handler in Python is not enough: the first step of a network compiles for a minute, and until
    then Python runs no handler. So a thread waits for the signals. A second signal ends the process
    in any phase.

    Attributes:
      signal: the signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._phase = Phase.IDLE
        self._is_saving: Callable[[], bool] = lambda: False

    def listen(self) -> None:
        """Takes the signals over; must be called in the main thread.

        A signal that is ignored from the start stays so, as Ctrl-C in the background of a script.
        """
        read, write = os.pipe()
        os.set_blocking(write, False)
        # The pipe receives a signal even while the main thread is not in Python.
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, _nothing)
        threading.Thread(target=self._watch, args=(read,), daemon=True).start()

    @property
    def exit_status(self) -> int:
        """0 after SIGTERM: the run did as it was told; 130 after Ctrl-C, as shells have it."""
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
          is_saving: whether a checkpoint is still being written.
        """
        self._is_saving = is_saving
        self._phase = Phase.EVALUATING

    def _must_wait(self) -> bool:
        """Whether the process must not end yet."""
        phase = self._phase  # once: the other thread may change it
        return phase is Phase.TRAINING or (phase is Phase.EVALUATING and self._is_saving())

    def _watch(self, pipe: int) -> None:
        self.signal = _read_signal(pipe)
        if self._must_wait():
            name = signal.Signals(self.signal).name
            logger.info("%s: saving, then it ends; a second one ends it at once", name)
        while self._must_wait():
            if select.select([pipe], [], [], 0.1)[0] and _read_signal(pipe):
                os._exit(128 + self.signal)
        logger.info("stopped with nothing left to save; the same command goes on")
        os._exit(self.exit_status)


class Turn(NamedTuple):
    """What to do after a step."""

    save: bool
    stop: bool


class Pace:
    """Decides, alike on all processes, when to save and when to stop.

    A signal may reach one process alone, and clocks differ, but a checkpoint is made by all of
    them after the same step. They ask each other every `AGREE_S` seconds, at a step that follows
    from what the first one has measured.

    Args:
      stop: of this process.
      every_minutes: between two checkpoints; 0 asks for none.
    """

    def __init__(self, stop: Stop, every_minutes: float):
        self._stop, self._every = stop, 60 * every_minutes or float("inf")
        self._saved = self._asked = time.monotonic()
        self._asked_step, self._next = 0, 0

    def saved(self) -> None:
        """Starts the time to the next checkpoint."""
        self._saved = time.monotonic()

    def after(self, step: int) -> Turn:
        """What to do after a step; must be called after every one."""
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


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler in Python's name: without one a signal is not written to the pipe."""


def _read_signal(pipe: int) -> int:
    """The next of our two signals from the pipe, which hears of all that Python handles."""
    while True:
        number = os.read(pipe, 1)[0]
        if number in (signal.SIGTERM, signal.SIGINT):
            return number
