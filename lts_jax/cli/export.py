"""Exports a run's best checkpoint as a folder that others can run.

    lts export runs/refcoco --format onnx
    lts export runs/refcoco --format onnx --config.eval.threshold=val

preprocessing.json names the threshold of masks: by the second command the best one on val.

stablehlo and onnx run without this package. hub is a folder for `huggingface_hub`'s upload_folder,
and for `lts predict --model`: weights in float16, config, vocabulary, and a model card to complete.
"""

import argparse
from pathlib import Path

from lts_jax.cli.session import check_devices, configure_jax, trained_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("workdir", type=Path, help="of the run")
    parser.add_argument(
        "--format", required=True, choices=("stablehlo", "onnx", "safetensors", "hub")
    )
    parser.add_argument("--out", type=Path, help="new folder; <workdir>/export/<format> if omitted")
    parser.set_defaults(config=None)  # the checkpoint's own, with overrides


def run(args: argparse.Namespace) -> None:
    """Exports."""
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
