"""The command `import`: other people's formats become a custom.json."""

import argparse
from collections import Counter

from tfds_refcoco.errors import DataError
from tfds_refcoco.flags import local_path

DESCRIPTION = "make a custom.json of the annotations of another tool or data set"
FORMATS = ("coco", "refer", "labelme", "cvat", "label-studio")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("format", choices=FORMATS)
    parser.add_argument("input", type=local_path, help="file or folder of the annotations")
    parser.add_argument("--out", type=local_path, required=True, help="folder for custom.json")
    parser.add_argument("--images", type=local_path, help="folder of the images")
    parser.add_argument(
        "--expressions", type=local_path, metavar="FILE", help="coco: CSV or JSON by annotation id"
    )
    parser.add_argument(
        "--text", metavar="NAME", help="name of the field or attribute that has the expressions"
    )
    parser.add_argument(
        "--split",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="rename a split, OLD=- leaves it out; may be repeated",
    )
    parser.add_argument(
        "--val",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="of the images that have no split (default: 0.1)",
    )
    parser.add_argument("--seed", type=int, default=0, help="decides which images these are")


def run(args: argparse.Namespace) -> int:
    """Imports, and prints what there is and what was not kept."""
    from tfds_refcoco.importers import coco, cvat, label_studio, labelme, refer
    from tfds_refcoco.importers.assemble import LEAVE_OUT, assemble
    from tfds_refcoco.raw.types import SPLITS

    splits = {}
    for entry in args.split:
        old, equals, new = entry.rpartition("=")
        if not equals or new not in (*SPLITS, LEAVE_OUT):
            raise DataError(f"--split {entry}: expected OLD=NEW, NEW of {', '.join(SPLITS)} or -.")
        splits[old] = new
    if args.expressions and args.format != "coco":
        raise DataError("--expressions: it goes with the format coco.")
    if args.images and not args.images.is_dir():
        raise DataError(f"--images: {args.images} is no folder.")
    if args.input.suffix.lower() == ".zip":
        raise DataError(f"{args.input}: unpack it first; images are referenced and not copied.")
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
    print(f"Build it: python -m tfds_refcoco build --dataset custom --raw {args.out} --out data")
    return 0
