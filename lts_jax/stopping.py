"""Ends a training when it is told to, without losing what it has learned."""

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

AGREE_S = 5.0  # about how often several processes agree on whether to save and to stop


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """The training was told to end and has saved; the message says how to go on."""


class Stop:
    """Whether SIGTERM, which machines send that are about to be taken away, or Ctrl-C came.

    Unless there is something to save, the process ends at once, whatever it is doing: the first
    step of a network compiles for a minute, and until then Python runs no handler. Nothing that a
    run writes minds that. Between `hold` and `release` the training sees to the end itself. A
    second signal ends the process in any case.

    Attributes:
      signal: the signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._busy: Callable[[], bool] = lambda: False

    def listen(self) -> None:
        """Takes the signals over; to be called in the main thread."""
        read, write = os.pipe()
        os.set_blocking(write, False)
        # The pipe hears of a signal even while the main thread is not in Python.
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _nothing)
        threading.Thread(target=self._watch, args=(read,), daemon=True).start()

    @property
    def exit_status(self) -> int:
        """0 after SIGTERM: the run did as it was told; 130 after Ctrl-C, as shells have it."""
        return 130 if self.signal == signal.SIGINT else 0

    def hold(self) -> None:
        """From here on there is something to save."""
        self._busy = lambda: True

    def release(self, busy: Callable[[], bool] = lambda: False) -> None:
        """From here on there is not, once `busy` is false."""
        self._busy = busy

    def _watch(self, pipe: int) -> None:
        self.signal = _read_signal(pipe)
        if self._busy():
            name = signal.Signals(self.signal).name
            print(f"{name}: saving, then it ends; a second one ends it at once", flush=True)
        while self._busy():
            if select.select([pipe], [], [], 0.1)[0] and _read_signal(pipe):
                os._exit(128 + self.signal)
        print("stopped with nothing left to save; the same command goes on", flush=True)
        os._exit(self.exit_status)


class Turn(NamedTuple):
    """What to do behind a step."""

    save: bool
    stop: bool


class Pace:
    """Decides, alike on all processes, when to save and when to stop.

    A signal may reach one process alone, and clocks differ, but a checkpoint is made by all of
    them behind the same step. They ask each other every `AGREE_S` seconds, at a step that follows
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
        """What to do behind a step; to be called behind every one."""
        now = time.monotonic()
        save, stop = now - self._saved >= self._every, self._stop.signal is not None
        if jax.process_count() == 1:
            return Turn(save, stop)
        if step < self._next:
            return Turn(False, False)
        seconds = (now - self._asked) / max(1, step - self._asked_step)
        told = np.array([save, stop, seconds], np.float32)
        told = np.asarray(multihost_utils.process_allgather(told))
        self._asked, self._asked_step = time.monotonic(), step
        self._next = step + max(1, int(AGREE_S / max(float(told[0, 2]), 1e-4)))
        return Turn(bool(told[0, 0]), bool(told[:, 1].any()))


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler in Python's name: without one a signal is not written to the pipe."""


def _read_signal(pipe: int) -> int:
    """The next of our two signals from the pipe, which hears of all that Python handles."""
    while True:
        number = os.read(pipe, 1)[0]
        if number in (signal.SIGTERM, signal.SIGINT):
            return number
