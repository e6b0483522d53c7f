"""`python -m lts_jax` is the command `lts`."""

from lts_jax.cli.command import main

if __name__ == "__main__":
    main(prog="python -m lts_jax")
