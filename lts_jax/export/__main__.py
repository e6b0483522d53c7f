"""The command: `python -m lts_jax.export runs/refcoco --format onnx`."""

import argparse
import sys
from pathlib import Path

from absl import logging

from lts_jax.errors import ConfigError
from lts_jax.export.folder import FORMATS, export_run


def main(arguments: list[str] | None = None) -> None:
    """Exports a run's best checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m lts_jax.export", description=main.__doc__)
    parser.add_argument("workdir", type=Path, help="of the run")
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--out", type=Path, help="new folder; <workdir>/export/<format> if absent")
    given = parser.parse_args(arguments)
    out = given.out or given.workdir / "export" / given.format
    logging.set_verbosity(logging.WARNING)
    try:
        export_run(given.workdir, given.format, out)
    except (ConfigError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"wrote {out}: {', '.join(sorted(path.name for path in out.iterdir()))}")


if __name__ == "__main__":
    main()
