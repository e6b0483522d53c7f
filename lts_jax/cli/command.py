"""The command `lts`: referring image segmentation in JAX.

    lts train --config shapes          # generates a dataset, trains, evaluates
    lts predict --workdir runs/shapes --image photo.jpg --text "red circle" --out predictions

Run `lts COMMAND --help` for the flags of a command.
"""

import argparse
import importlib
import os
import re
import sys
from collections.abc import Sequence
from types import ModuleType

import lts_jax
from lts_jax.config.flags import split_overrides
from lts_jax.errors import USER_ERRORS, ConfigError, describe_missing
from lts_jax.io.console import configure_logging
from tfds_refcoco.console import finish_streams, prepare_streams
from tfds_refcoco.errors import DataError

COMMANDS = {
    "train": "train a network or resume training, then evaluate it",
    "eval": "evaluate a checkpoint",
    "predict": "segment the objects that sentences refer to in an image",
    "demo": "serve a local web page to try a network on your own images",
    "report": "write an HTML report on an evaluated run",
    "compare": "compare two runs on the same sentences",
    "score": "score the predictions of any model",
    "tables": "train the variants of one of the paper's tables",
    "figures": "draw the paper's Figures 4 and 5",
    "export": "export a network as StableHLO, ONNX or safetensors, or for the Hugging Face Hub",
    "models": "list the trained networks included in the package",
    "pretrained": "convert pretrained backbones and look up word vectors",
    "data": "build, check and show datasets (python -m tfds_refcoco)",
}

# JAX raises this on import if an environment variable has an unknown value.
_JAX_SETTING = re.compile("environment 'JAX_|for JAX flag ")


def main(arguments: Sequence[str] | None = None, prog: str = "lts") -> None:
    """Runs a command.

    Args:
      arguments: the command's name and flags; None uses `sys.argv`.
      prog: the program name in help texts.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    prepare_streams()
    # No command opens a window. matplotlib fails to start if MPLBACKEND names a backend that is
    # not installed, for example in the terminal of a notebook server.
    os.environ["MPLBACKEND"] = "agg"
    listed = "\n".join(f"  {name:12}{text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} COMMAND [flags]",
        description=__doc__,
        epilog=f"commands:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=lts_jax.__version__)
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="see below")
    name = parser.parse_args(arguments[:1] or ["--help"]).command
    if name == "data":
        data = _load("tfds_refcoco.__main__")
        sys.exit(data.main(arguments[1:], prog=f"{prog} data"))
    configure_logging()
    module = _load(f"lts_jax.cli.{'evaluate' if name == 'eval' else name}")
    parser = argparse.ArgumentParser(
        prog=f"{prog} {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    try:
        overrides, others = split_overrides(arguments[1:])
        args = parser.parse_args(others)
        args.overrides = overrides
        if overrides and not hasattr(args, "config"):
            parser.error(f"unrecognized arguments: {' '.join(overrides)}")
        module.run(args)
        finish_streams()
    except ModuleNotFoundError as error:
        sys.exit(describe_missing(error))
    except ValueError as error:
        if isinstance(error, ConfigError | DataError) or _JAX_SETTING.search(str(error)):
            sys.exit(f"error: {error}")
        raise
    except USER_ERRORS as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped")


def _load(name: str) -> ModuleType:
    """Imports a command's module; exits with a one-line message if a package is missing."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        sys.exit(describe_missing(error))
