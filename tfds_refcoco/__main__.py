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
      arguments: the command and its flags, those of the process if None.
      prog: the name of the program in usage messages.

    Returns:
      The exit status: 1 on invalid input, after a message on stderr. Invalid flags and `--help`
      raise SystemExit, as always with argparse.
    """
    prepare_streams()
    # No command opens a window, and the backend of a notebook may not be installed here.
    os.environ["MPLBACKEND"] = "agg"
    args = _parser(prog).parse_args(arguments)
    try:
        with _log_to_stderr(), _interruptible():
            status: int = args.run(args)
            finish_streams()
            return status
    except KeyboardInterrupt:
        print("stopped; what was built before is as it was", file=sys.stderr)
        return 130
    except (DataError, OSError) as error:  # OSError: no space, no permission
        print(f"error: {error}", file=sys.stderr)
        if isinstance(error, DataError) and error.skippable:
            print("--skip-bad leaves such items out and lists them.", file=sys.stderr)
        return 1


@contextlib.contextmanager
def _log_to_stderr() -> Iterator[None]:
    """Prints the package's log messages to stderr, such as "WARNING: waiting for another build"."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # the caller may have a handler of its own: print a message once
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Raises KeyboardInterrupt on SIGTERM, too, so that an unfinished build is removed.

    On SIGINT, Python raises it by itself. A process that was started with one of these signals
    ignored, such as a background job of a shell script, keeps ignoring it, as is usual on POSIX.
    """
    before = signal.getsignal(signal.SIGTERM)
    if before in (signal.SIG_IGN, None):  # None: handled by a library, outside Python
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
    print(f"raw files of shapes: {args.out}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from tfds_refcoco.inspection import check
    from tfds_refcoco.inspection.findings import FAILED, format_findings
    from tfds_refcoco.records import imagelists
    from tfds_refcoco.records.pictures import leak_free

    datasets = check.open_built(args.out, args.dataset or ())
    if not args.leak_free:
        if args.train_of or args.held_out:
            raise DataError("--train-of, --held-out: they go with --leak-free FILE.")
    elif args.dataset or not args.train_of:
        raise DataError(
            "--leak-free: name the set to train on with --train-of, and not --dataset: all sets "
            "that are built are held out."
        )
    else:
        files = args.held_out or []
        held_out = set().union(*(imagelists.read_ids(path) for path in files))
        training = open_dataset(args.out, args.train_of)
        ids, doubts = leak_free(training, datasets, held_out)
        names = ", ".join([*(built.name for built in datasets), *map(str, files)])
        note = f"train of {training.name} without what is held out by {names}"
        imagelists.write_ids(args.leak_free, ids, [note, *doubts])
        before = training.split("train").counts.images
        print(f"{len(ids):,} of {before:,} images of {training.name} train: {args.leak_free}")
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
            raise DataError(f"image id: {args.split} of {args.dataset} has no {args.image_id}.")
    else:
        numbers = random.Random(args.seed).sample(range(len(split)), min(args.number, len(split)))
    args.to.mkdir(parents=True, exist_ok=True)
    faults = []
    for number in sorted(numbers):
        try:
            record = split.record(number)
            picture = draw_record(record)
        except DataError as error:
            faults.append(f"record {number}: {error}")
            continue
        path = args.to / f"{args.dataset}_{args.split}_{number:05d}_{record['image_id']}.png"
        picture.save(path)
        print(path)
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return int(bool(faults))


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description="Builds, checks and shows data sets of referring expressions."
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, run: Callable[..., int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    builder = command("build", _build, "write a data set in records")
    builder.add_argument("--dataset", required=True, choices=tuple(SOURCES))
    builder.add_argument(
        "--raw", type=local_path, help="folder of the raw files or zips; not needed for shapes"
    )
    builder.add_argument("--out", type=local_path, required=True, help="folder to build in")
    builder.add_argument("--overwrite", action="store_true", help="replace a set already built")
    builder.add_argument(
        "--split", action="append", metavar="NAME", help="build this split alone; may be repeated"
    )
    builder.add_argument(
        "--max-images", type=positive, metavar="N", help="the first N images of each split alone"
    )
    builder.add_argument(
        "--skip-bad", action="store_true", help="leave faulty items out and list them"
    )
    builder.add_argument(
        "--beam", metavar="OPTIONS", help="let Apache Beam write, with its options; '' for none"
    )

    generator = command("generate", _generate, "write the raw files of the set shapes")
    generator.add_argument("--out", type=local_path, required=True)
    generator.add_argument("--seed", type=not_negative, default=0)

    importers.add_arguments(command("import", importers.run, importers.DESCRIPTION))
    expressions.add_arguments(command("expressions", expressions.run, expressions.DESCRIPTION))

    checker = command("check", _check, "check built sets; exit status 1 if anything is wrong")
    checker.add_argument("--out", type=local_path, required=True, help="folder they were built in")
    checker.add_argument(
        "--dataset", action="append", choices=tuple(SOURCES), help="all that are built if not given"
    )
    checker.add_argument(
        "--leak-free",
        type=local_path,
        metavar="FILE",
        help="instead write the images of a train split that no set's val or test splits hold",
    )
    checker.add_argument("--train-of", metavar="DATASET", help="whose train split that is")
    checker.add_argument(
        "--held-out",
        type=local_path,
        action="append",
        metavar="FILE",
        help="further images held out",
    )

    stats = command("stats", _stats, "print lengths, words and objects of a built set")
    shower = command("show", _show, "draw records of a built set")
    for reader in (stats, shower):
        reader.add_argument("--out", type=local_path, required=True, help="folder it was built in")
        reader.add_argument("--dataset", required=True, choices=tuple(SOURCES))
    stats.add_argument("--json", action="store_true")
    shower.add_argument(
        "number", type=positive, nargs="?", default=8, help="of records, chosen by seed"
    )
    shower.add_argument("--split", default="val")
    shower.add_argument("--image-id", type=int, help="draw this image instead")
    shower.add_argument(
        "--to", type=local_path, default=Path("pictures"), help="folder of the pictures"
    )
    shower.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    sys.exit(main())
