"""Command line: `python -m tfds_refcoco build|generate|import|expressions|...`."""

import argparse
import contextlib
import json
import logging
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from tfds_refcoco.console import finish_streams, prepare_streams
from tfds_refcoco.errors import DataError
from tfds_refcoco.expressions import command as expressions
from tfds_refcoco.flags import local_path, not_negative, positive
from tfds_refcoco.importers import command as importers
from tfds_refcoco.inspection.summary import summary
from tfds_refcoco.raw.sources import SOURCES
from tfds_refcoco.records.reader import open_dataset
from tfds_refcoco.writing.build import build

logger = logging.getLogger("tfds_refcoco")  # not __name__, which is "__main__" here


def main(arguments: Sequence[str] | None = None, prog: str = "python -m tfds_refcoco") -> int:
    """Runs the command line.

    Args:
      arguments: the command and its flags; defaults to `sys.argv[1:]`.
      prog: program name for usage messages.

    Returns:
      The exit status: 1 on invalid input, with a message on stderr. Invalid flags and `--help`
      raise SystemExit, as usual with argparse.
    """
    prepare_streams()
    # No command opens a window, and a notebook's backend may not be installed.
    os.environ["MPLBACKEND"] = "agg"
    args = _parser(prog).parse_args(arguments)
    try:
        with _log_to_stderr(), _interruptible():
            status: int = args.run(args)
            finish_streams()
            return status
    except KeyboardInterrupt:
        print("Interrupted. Datasets that were already built are unchanged.", file=sys.stderr)
        return 130
    except (DataError, OSError) as error:  # OSError: no space, no permission
        print(f"error: {error}", file=sys.stderr)
        if isinstance(error, DataError) and error.skippable:
            print("Use --skip-bad to skip and list invalid items.", file=sys.stderr)
        return 1


@contextlib.contextmanager
def _log_to_stderr() -> Iterator[None]:
    """Prints the package's log messages to stderr, such as "WARNING: waiting for another build"."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # the caller may have installed a handler: print each message once
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Raises KeyboardInterrupt on SIGTERM, as on SIGINT, so that an unfinished build is removed.

    A process that was started with SIGTERM ignored, such as a background job of a shell script,
    keeps ignoring it, as is usual on POSIX.
    """
    before = signal.getsignal(signal.SIGTERM)
    if before in (signal.SIG_IGN, None):  # None: a non-Python handler
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _build(args: argparse.Namespace) -> int:
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
    return 0


def _generate(args: argparse.Namespace) -> int:
    from tfds_refcoco.shapes import generate

    generate(args.out, seed=args.seed)
    print(f"Wrote the raw files of shapes to {args.out}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from tfds_refcoco.inspection import check
    from tfds_refcoco.inspection.findings import FAILED, format_findings
    from tfds_refcoco.records import imagelists
    from tfds_refcoco.records.pictures import leak_free

    datasets = check.open_built(args.out, args.dataset or ())
    if not args.leak_free:
        if args.train_of or args.held_out:
            raise DataError("--train-of, --held-out: these flags require --leak-free FILE.")
    elif args.dataset or not args.train_of:
        raise DataError(
            "--leak-free: specify the training dataset with --train-of, and omit --dataset: the "
            "val and test images of all built datasets are excluded."
        )
    else:
        files = args.held_out or []
        held_out = set().union(*(imagelists.read_ids(path) for path in files))
        training = open_dataset(args.out, args.train_of)
        ids, doubts = leak_free(training, datasets, held_out)
        names = ", ".join([*(built.name for built in datasets), *map(str, files)])
        note = f"train split of {training.name} without images held out by {names}"
        imagelists.write_ids(args.leak_free, ids, [note, *doubts])
        before = training.split("train").counts.images
        print(
            f"Wrote {len(ids):,} of the {before:,} image ids of {training.name} train to "
            f"{args.leak_free}"
        )
        for doubt in doubts:
            logger.warning(doubt)
        return 0
    findings = list(check.check_all(datasets, progress=True))
    print(format_findings(findings))
    return int(any(finding.status == FAILED for finding in findings))


def _stats(args: argparse.Namespace) -> int:
    from tfds_refcoco.inspection.stats import describe, format_stats

    stats = describe(open_dataset(args.out, args.dataset))
    print(json.dumps(stats, indent=2, ensure_ascii=False) if args.json else format_stats(stats))
    return 0


def _show(args: argparse.Namespace) -> int:
    from tfds_refcoco.inspection.show import draw_record

    split = open_dataset(args.out, args.dataset).split(args.split)
    if args.image_id is not None:
        numbers = np.unique(split.index.record[split.index.image_id == args.image_id]).tolist()
        if not numbers:
            raise DataError(
                f"--image-id: {args.dataset} {args.split} has no image {args.image_id}."
            )
    else:
        numbers = random.Random(args.seed).sample(range(len(split)), min(args.number, len(split)))
    args.to.mkdir(parents=True, exist_ok=True)
    errors = []
    for number in sorted(numbers):
        try:
            record = split.record(number)
            picture = draw_record(record)
        except DataError as error:
            errors.append(f"record {number}: {error}")
            continue
        path = args.to / f"{args.dataset}_{args.split}_{number:05d}_{record['image_id']}.png"
        picture.save(path)
        print(path)
    for error_text in errors:
        print(f"error: {error_text}", file=sys.stderr)
    return int(bool(errors))


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description="Build, check and inspect datasets of referring expressions."
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, run: Callable[..., int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    builder = command("build", _build, "convert raw files to a dataset of records")
    builder.add_argument("--dataset", required=True, choices=tuple(SOURCES))
    builder.add_argument(
        "--raw", type=local_path, help="folder with the raw files or zips; not needed for shapes"
    )
    builder.add_argument("--out", type=local_path, required=True, help="output folder")
    builder.add_argument("--overwrite", action="store_true", help="replace an existing build")
    builder.add_argument(
        "--split", action="append", metavar="NAME", help="build only this split; repeatable"
    )
    builder.add_argument(
        "--max-images",
        type=positive,
        metavar="N",
        help="build only the first N images of each split",
    )
    builder.add_argument("--skip-bad", action="store_true", help="skip invalid items and list them")
    builder.add_argument(
        "--beam",
        metavar="OPTIONS",
        help="write with Apache Beam and these pipeline options; '' for none",
    )

    generator = command("generate", _generate, "generate the raw files of the shapes dataset")
    generator.add_argument("--out", type=local_path, required=True, help="output folder")
    generator.add_argument("--seed", type=not_negative, default=0, help="random seed (default: 0)")

    importers.add_arguments(command("import", importers.run, importers.DESCRIPTION))
    expressions.add_arguments(command("expressions", expressions.run, expressions.DESCRIPTION))

    checker = command("check", _check, "check built datasets; exit status 1 if a check fails")
    checker.add_argument("--out", type=local_path, required=True, help="folder with the builds")
    checker.add_argument(
        "--dataset",
        action="append",
        choices=tuple(SOURCES),
        help="repeatable; default: all built datasets",
    )
    checker.add_argument(
        "--leak-free",
        type=local_path,
        metavar="FILE",
        help="instead, write the image ids of a train split that no val or test split contains",
    )
    checker.add_argument("--train-of", metavar="DATASET", help="dataset of that train split")
    checker.add_argument(
        "--held-out",
        type=local_path,
        action="append",
        metavar="FILE",
        help="file with further held-out image ids; repeatable",
    )

    stats = command("stats", _stats, "print statistics of a built dataset")
    shower = command("show", _show, "draw records of a built dataset")
    for reader in (stats, shower):
        reader.add_argument("--out", type=local_path, required=True, help="folder with the build")
        reader.add_argument("--dataset", required=True, choices=tuple(SOURCES))
    stats.add_argument("--json", action="store_true", help="print JSON")
    shower.add_argument(
        "number", type=positive, nargs="?", default=8, help="number of random records (default: 8)"
    )
    shower.add_argument("--split", default="val", help="split to draw (default: val)")
    shower.add_argument("--image-id", type=int, help="draw this image instead")
    shower.add_argument(
        "--to",
        type=local_path,
        default=Path("pictures"),
        help="output folder for the pictures (default: pictures)",
    )
    shower.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
