"""Detects diverged training."""

import math
from collections.abc import Callable, Sequence

import jax

from lts_jax.errors import NonFiniteLossError

# Steps queued on the device: enough to keep it busy, few enough to stop quickly.
_IN_FLIGHT = 2


class LossGuard:
    """Checks the losses of every step, but fetches them from the device only occasionally.

    Args:
      sent_ids: returns the sentence ids of a step's batch.
      last_good: returns the step of the newest checkpoint.
    """

    def __init__(
        self, sent_ids: Callable[[int], Sequence[int]], last_good: Callable[[], int | None]
    ) -> None:
        self._sent_ids, self._last_good = sent_ids, last_good
        self._steps: list[int] = []
        self._losses: list[dict[str, jax.Array]] = []

    def add(self, step: int, losses: dict[str, jax.Array]) -> None:
        """Records a step's losses without fetching them from the device."""
        self._steps.append(step)
        self._losses.append(losses)
        if len(self._losses) > _IN_FLIGHT:
            jax.block_until_ready(self._losses[-1 - _IN_FLIGHT])

    def check(self) -> dict[str, float]:
        """Fetches the recorded losses and returns those of the newest step.

        Raises:
          NonFiniteLossError: a loss or the gradient of a step is not finite.
        """
        scalars: dict[str, float] = {}
        for step, losses in zip(self._steps, jax.device_get(self._losses), strict=True):
            scalars = {name: float(value) for name, value in losses.items()}
            for name, value in scalars.items():
                if not math.isfinite(value):
                    saved = self._last_good()
                    kept = f"the last good checkpoint is step {saved}" if saved else "nothing saved"
                    ids = " ".join(map(str, self._sent_ids(step)))
                    raise NonFiniteLossError(
                        f"{name} is {value} at step {step}; {kept}. Restart with a lower "
                        f"train.learning_rate and another --workdir. sent_ids of the batch: {ids}"
                    )
        self._steps, self._losses = self._steps[-1:], self._losses[-1:]
        return scalars
