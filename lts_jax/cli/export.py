"""Exports a run's best checkpoint as a folder that others can run.

lts export runs/refcoco --format onnx
"""

import argparse
from pathlib import Path

from lts_jax.cli.session import check_devices, configure_jax


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("workdir", type=Path, help="of the run")
    parser.add_argument("--format", required=True, choices=("stablehlo", "onnx", "safetensors"))
    parser.add_argument("--out", type=Path, help="new folder; <workdir>/export/<format> if omitted")


def run(args: argparse.Namespace) -> None:
    """Exports."""
    from lts_jax.export.bundle import export_run
    from lts_jax.io.files import check_inside

    configure_jax()
    check_devices()
    out = args.out or args.workdir / "export" / args.format
    if not args.out:
        check_inside(args.workdir, out)
    export_run(args.workdir, args.format, out)
    print(f"wrote {out}: {', '.join(sorted(path.name for path in out.iterdir()))}")
