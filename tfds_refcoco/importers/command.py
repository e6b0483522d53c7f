"""The command `import`: conversion of other formats to a custom.json."""

import argparse
from collections import Counter

from tfds_refcoco.errors import DataError
from tfds_refcoco.flags import local_path

DESCRIPTION = "convert annotations of another tool or dataset to a custom.json"
FORMATS = ("coco", "refer", "labelme", "cvat", "label-studio")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("format", choices=FORMATS, help="format of the annotations")
    parser.add_argument("input", type=local_path, help="annotation file or folder")
    parser.add_argument(
        "--out", type=local_path, required=True, help="output folder for custom.json"
    )
    parser.add_argument("--images", type=local_path, help="folder with the images")
    parser.add_argument(
        "--expressions",
        type=local_path,
        metavar="FILE",
        help="coco: CSV or JSON of expressions by annotation id",
    )
    parser.add_argument(
        "--text", metavar="NAME", help="name of the field or attribute with the expressions"
    )
    parser.add_argument(
        "--split",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="rename a split, or skip it with OLD=-; repeatable",
    )
    parser.add_argument(
        "--val",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="fraction of the images without a split to use for val (default: 0.1)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed for choosing the val images")


def run(args: argparse.Namespace) -> int:
    """Runs the import; prints the counts and notes on ignored items."""
    from tfds_refcoco.importers import coco, cvat, label_studio, labelme, refer
    from tfds_refcoco.importers.assemble import LEAVE_OUT, assemble
    from tfds_refcoco.raw.types import SPLITS

    splits = {}
    for entry in args.split:
        old, equals, new = entry.rpartition("=")
        if not equals or new not in (*SPLITS, LEAVE_OUT):
            raise DataError(f"--split {entry}: expected OLD=NEW; NEW is {', '.join(SPLITS)} or -.")
        splits[old] = new
    if args.expressions and args.format != "coco":
        raise DataError("--expressions: this flag requires the format coco.")
    if args.images and not args.images.is_dir():
        raise DataError(f"--images: {args.images} is not a folder.")
    if args.input.suffix.lower() == ".zip":
        raise DataError(
            f"{args.input}: extract the zip first, because images are referenced instead of copied."
        )
    notes: Counter[str] = Counter()
    match args.format:
        case "coco":
            images = coco.read_coco_export(
                args.input, args.images, args.expressions, args.text, notes
            )
        case "refer":
            images = refer.read_refer(args.input, args.images, notes)
        case "labelme":
            images = labelme.read_labelme(args.input, args.images, args.text, notes)
        case "cvat":
            images = cvat.read_cvat(args.input, args.images, args.text, notes)
        case _:
            images = label_studio.read_label_studio(args.input, args.images, args.text, notes)
    made = assemble(images, args.out, notes, splits=splits, val=args.val, seed=args.seed)
    for split in SPLITS:
        if split in made.images:
            print(f"{split}: {made.images[split]:,} images, {made.sentences[split]:,} sentences")
    for note in made.notes:
        print(note)
    print(made.path)
    print(f"Next: python -m tfds_refcoco build --dataset custom --raw {args.out} --out data")
    return 0
