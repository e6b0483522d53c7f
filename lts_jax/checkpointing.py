"""Checkpoints of everything that a run needs to go on, by Orbax."""

from pathlib import Path
from typing import Any

import grain
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from lts_jax.steps import TrainState

BEST_METRIC = "oiou"


def _score(metrics: dict[str, float]) -> float:
    return metrics[BEST_METRIC]


class Checkpoints:
    """The checkpoints of a workdir: the latest one and the one with the best oIoU.

    Each holds the training state, the data iterator, the config and the vocabulary's words.
    """

    def __init__(self, workdir: Path):
        # max_to_keep with best_fn would delete the latest step.
        policy = preservation_policy.AnyPreservationPolicy(
            [
                preservation_policy.LatestN(n=1),
                preservation_policy.BestN(
                    get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False
                ),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            best_fn=_score, best_mode="max", preservation_policy=policy
        )
        self._manager = ocp.CheckpointManager(
            (workdir / "checkpoints").resolve(),
            options=options,
            item_names=("state", "iterator", "config", "vocabulary"),
            item_handlers={"iterator": grain.checkpoint.CheckpointHandler()},
        )

    @property
    def latest_step(self) -> int | None:
        """The newest step, or None where there is no checkpoint."""
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """The step with the best metric, or None where there is no checkpoint."""
        return self._manager.best_step()

    def save(
        self,
        step: int,
        state: TrainState,
        iterator: grain.DatasetIterator,
        config: dict[str, Any],
        words: list[str],
        metrics: dict[str, float],
    ) -> None:
        """Writes a checkpoint in the background; an interrupted one is never taken for whole."""
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                iterator=grain.checkpoint.CheckpointSave(iterator),
                config=ocp.args.JsonSave(config),
                vocabulary=ocp.args.JsonSave(words),
            ),
            metrics=metrics,
        )

    def read_config(self, step: int) -> tuple[dict[str, Any], list[str]]:
        """Returns the config and the vocabulary's words that a checkpoint was made with."""
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                config=ocp.args.JsonRestore(), vocabulary=ocp.args.JsonRestore()
            ),
        )
        return restored["config"], restored["vocabulary"]

    def restore_state(self, step: int, abstract_state: TrainState) -> TrainState:
        """Reads a state into the shapes, dtypes and shardings of `abstract_state`."""
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
        return self._manager.restore(step, args=args)["state"]

    def restore_iterator(self, step: int, iterator: grain.DatasetIterator) -> None:
        """Sets the iterator to where it stood when the checkpoint was saved."""
        args = ocp.args.Composite(iterator=grain.checkpoint.CheckpointRestore(iterator))
        self._manager.restore(step, args=args)

    def close(self) -> None:
        """Waits until everything is on disk."""
        self._manager.close()
