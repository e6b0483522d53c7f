"""`python -m lts_jax.main --mode=train|eval|predict` is `lts train|eval|predict`.

python -m lts_jax.main --config configs/refcoco.py
python -m lts_jax.main --mode=eval --workdir runs/refcoco
"""

import argparse
import sys
from collections.abc import Sequence

from lts_jax.errors import describe_missing

try:
    from lts_jax.cli import command
except ModuleNotFoundError as error:
    sys.exit(describe_missing(error))

MODES = ("train", "eval", "predict")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command that `--mode` selects with the remaining arguments."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    prog = "python -m lts_jax.main"
    parser = argparse.ArgumentParser(prog=prog, add_help=False, allow_abbrev=False)
    parser.add_argument("--mode", choices=MODES, default="train")
    args, others = parser.parse_known_args(arguments)
    command.main([args.mode, *others], prog=f"{prog} --mode")


if __name__ == "__main__":
    main()
