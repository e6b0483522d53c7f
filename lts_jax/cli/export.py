"""Exports a run's best checkpoint to a folder.

    lts export runs/refcoco --format onnx
    lts export runs/refcoco --format onnx --config.eval.threshold=val

The exported preprocessing.json includes the mask threshold; the second command exports the
threshold that is best on val.

stablehlo and onnx run without this package. hub writes a folder for `huggingface_hub`'s
upload_folder and for `lts predict --model`: float16 weights, config, vocabulary, and a model card
to complete.
"""

import argparse
from pathlib import Path

from lts_jax.cli.session import check_devices, configure_jax, trained_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("workdir", type=Path, help="the run's folder")
    parser.add_argument(
        "--format", required=True, choices=("stablehlo", "onnx", "safetensors", "hub")
    )
    parser.add_argument("--out", type=Path, help="new folder (default: <workdir>/export/<format>)")
    parser.set_defaults(config=None)  # use the checkpoint's config, with overrides


def run(args: argparse.Namespace) -> None:
    """Exports the run."""
    from lts_jax.export.bundle import export_run
    from lts_jax.io.files import check_inside

    configure_jax()
    check_devices()
    out = args.out or args.workdir / "export" / args.format
    if not args.out:
        check_inside(args.workdir, out)
    config = trained_config(args, args.workdir, None)
    export_run(args.workdir, args.format, out, config)
    print(f"wrote {out}: {', '.join(sorted(path.name for path in out.iterdir()))}")
