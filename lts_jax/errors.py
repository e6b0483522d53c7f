"""User-correctable errors: the commands print them as one line, without a traceback."""

import sys


class ConfigError(ValueError):
    """A field or flag that makes no sense, or does not fit the data, the devices or the workdir."""


class NonFiniteLossError(ArithmeticError):
    """The training has diverged."""


class NonFiniteOutputError(ArithmeticError):
    """A network whose outputs are not finite: its masks would mean nothing."""


class UnreadableCheckpointError(ConfigError):
    """A checkpoint that is damaged, or not of this network."""


class SaveError(OSError):
    """A checkpoint that could not be written."""


class RunError(RuntimeError):
    """A training that was started as a process has failed; the message names its log."""


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """The training was told to end and has saved; the message says so."""


def describe_missing(error: ModuleNotFoundError) -> str:
    """Returns one line for a package that is not installed; raises the error if it is our own."""
    name = (error.name or "").partition(".")[0]
    if name in ("", "lts_jax", "tfds_refcoco", "benchmarks"):
        raise error
    return (
        f"error: {sys.executable or 'Python'} has no package {name}: activate the environment in "
        "which lts_jax is installed, or run pip install ."
    )


USER_ERRORS = (ConfigError, NonFiniteLossError, NonFiniteOutputError, RunError, OSError)
