"""Command line: `python -m tfds_refcoco build ...` and `python -m tfds_refcoco generate ...`."""

import argparse
import io
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tfds_refcoco.build import build
from tfds_refcoco.counts import SENTENCES
from tfds_refcoco.errors import DataError
from tfds_refcoco.layout import build_path, read_build
from tfds_refcoco.reader import open_dataset
from tfds_refcoco.sources import SOURCES


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status: 1 on bad input, with one message."""
    args = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return _run(args)
    except KeyboardInterrupt:
        print("stopped; what was built before is as it was", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace) -> int:
    try:
        if args.command == "generate":
            from tfds_refcoco.shapes import generate

            generate(args.out, seed=args.seed)
            print(f"raw files of shapes: {args.out}")
        else:
            path = build(
                args.dataset,
                args.out,
                args.raw,
                overwrite=args.overwrite,
                splits=tuple(args.split or ()),
                max_images=args.max_images,
                skip_bad=args.skip_bad,
                beam=args.beam,
            )
            print(f"{summary(args.out, args.dataset)}\n{path}")
    except (DataError, OSError) as error:  # OSError: no space, no permission
        print(f"error: {error}", file=sys.stderr)
        if isinstance(error, DataError) and error.skippable:
            print("--skip-bad leaves such items out and lists them.", file=sys.stderr)
        return 1
    return 0


def summary(data_dir: Path, dataset: str) -> str:
    """Returns a table of what each split of a built set holds.

    `area ratio` is the smallest and largest number of mask pixels divided by COCO's area; far from
    1 means that masks and annotations do not belong together.
    """
    built = open_dataset(data_dir, dataset)
    lines = [f"{'split':<8}{'images':>9}{'refs':>9}{'sentences':>11}{'published':>11}   area ratio"]
    for name in (*built.splits, "+".join(built.splits)):
        counts = built.split(name).counts
        published = SENTENCES.get(dataset, {}).get(name, "-")
        label = name if name in built.splits else "total"
        lines.append(
            f"{label:<8}{counts.images:>9}{counts.refs:>9}{counts.sentences:>11}{published:>11}"
            f"   {counts.area_ratio_min:.3f} to {counts.area_ratio_max:.3f}"
        )
    said = read_build(built.path)
    if said["gray_images"]:
        lines.append(f"{said['gray_images']} images are gray")
    if skipped := said["skipped"]:
        lines.append(f"left out: {len(skipped)} faulty items, listed in {build_path(built.path)}")
        lines += [f"  {text}" for text in skipped[:5]]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tfds_refcoco", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    builder = commands.add_parser("build", help="write a data set in records")
    builder.add_argument("--dataset", required=True, choices=tuple(SOURCES))
    builder.add_argument(
        "--raw", type=Path, help="folder of the raw files or zips; not needed for shapes"
    )
    builder.add_argument("--out", type=Path, required=True, help="folder to build in")
    builder.add_argument("--overwrite", action="store_true", help="replace a set already built")
    builder.add_argument(
        "--split", action="append", metavar="NAME", help="build this split alone; may be repeated"
    )
    builder.add_argument(
        "--max-images", type=int, metavar="N", help="the first N images of each split alone"
    )
    builder.add_argument(
        "--skip-bad", action="store_true", help="leave faulty items out and list them"
    )
    builder.add_argument(
        "--beam", metavar="OPTIONS", help="let Apache Beam write, with its options; '' for none"
    )
    generator = commands.add_parser("generate", help="write the raw files of the set shapes")
    generator.add_argument("--out", type=Path, required=True)
    generator.add_argument("--seed", type=int, default=0)
    return parser


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)  # so that a half-built folder is removed then, too
    sys.exit(main())
