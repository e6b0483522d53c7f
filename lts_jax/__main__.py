"""`python -m lts_jax` is the command `lts`."""

import sys

from lts_jax.errors import describe_missing

try:
    from lts_jax.cli.command import main
except ModuleNotFoundError as error:
    sys.exit(describe_missing(error))

if __name__ == "__main__":
    main(prog="python -m lts_jax")
