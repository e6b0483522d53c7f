"""Scores the predictions of any model, without a network, an accelerator or JAX.

    lts score --predictions p.json --data data --dataset refcoco_unc --split val

Predictions are a JSON list of `{"sent_id": 17, "segmentation": {"size": [h, w], "counts": RLE}}`
(COCO RLE, compressed or not), or a folder of masks `<sent_id>.png` at the original image sizes,
with 0 for background and one other value for foreground. Entries of a list may also have a
`point`, `[column, row]`, which adds the pointing metric.
"""

import argparse
from pathlib import Path

import tfds_refcoco
from lts_jax.errors import ConfigError
from lts_jax.evaluation import bootstrap, external, results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument(
        "--predictions", type=Path, required=True, help="JSON file, or folder of <sent_id>.png"
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the built datasets")
    parser.add_argument("--dataset", default="refcoco_unc", help="name of the dataset")
    parser.add_argument("--split", default="val", help="split; a+b joins two splits")
    parser.add_argument(
        "--out",
        type=Path,
        help="output folder for metrics.json, analysis.json and predictions.json",
    )


def run(args: argparse.Namespace) -> None:
    """Scores the predictions."""
    if args.out and (args.out / "predictions.json").resolve() == args.predictions.resolve():
        raise ConfigError(f"--out={args.out} would overwrite --predictions: choose another folder")
    split = tfds_refcoco.open_dataset(args.data, args.dataset).split(args.split)
    scored = external.score(split, external.Predictions(args.predictions))
    summary = results.summarize(split, scored)
    if args.out:
        results.write(split, scored, args.out)
    results.print_results({args.split: summary})
    intervals = bootstrap.intervals(scored.scores(split))
    results.print_intervals({args.split: {"intervals": intervals}})
    if args.out:
        print(f"wrote {args.out}")
