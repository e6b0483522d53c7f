"""User-correctable errors, which the commands print as one line without a traceback."""

import sys


class ConfigError(ValueError):
    """An invalid field or flag, or one that does not match the data, the devices or the workdir."""


class NonFiniteLossError(ArithmeticError):
    """The training has diverged."""


class NonFiniteOutputError(ArithmeticError):
    """The network's outputs are not finite, so its masks would be meaningless."""


class UnreadableCheckpointError(ConfigError):
    """A checkpoint is damaged, or belongs to another network."""


class SaveError(OSError):
    """A checkpoint could not be written."""


class RunError(RuntimeError):
    """A training subprocess has failed; the message names its log."""


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """The training received a stop request and has saved a checkpoint."""


def describe_missing(error: ModuleNotFoundError) -> str:
    """Returns a one-line message for a missing package; re-raises if the module is our own."""
    name = (error.name or "").partition(".")[0]
    if name in ("", "lts_jax", "tfds_refcoco", "benchmarks"):
        raise error
    return (
        f"error: {sys.executable or 'Python'} has no package {name}: activate the environment in "
        "which lts_jax is installed, or run pip install ."
    )


USER_ERRORS = (ConfigError, NonFiniteLossError, NonFiniteOutputError, RunError, OSError)
