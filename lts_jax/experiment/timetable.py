"""Computes the steps after which a run ends, evaluates and logs."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Timetable:
    """The schedule of a run; steps are counted from 1.

    Attributes:
      steps_per_epoch: training steps per epoch, may be fractional.
      epochs: of the run.
      every_epochs: epochs between evaluations.
      log_every: steps between log lines.
    """

    steps_per_epoch: float
    epochs: float
    every_epochs: float
    log_every: int

    @property
    def total_steps(self) -> int:
        """Number of training steps."""
        return max(1, math.ceil(self.epochs * self.steps_per_epoch))

    def evaluates_after(self, step: int) -> bool:
        """Whether `eval.best_split` is evaluated after a step.

        If less than half an interval remains, only the evaluation at the end is done.
        """
        every = max(1, round(self.every_epochs * self.steps_per_epoch))
        left = self.total_steps - step
        return left == 0 or (step % every == 0 and left >= every / 2)

    def logs_after(self, step: int) -> bool:
        """Whether a step is logged."""
        return self.evaluates_after(step) or step == 1 or step % self.log_every == 0
