"""The command `expressions`: generation of sentences for annotations."""

import argparse
from collections import Counter

from tfds_refcoco.flags import local_path
from tfds_refcoco.records.text import kind_name

DESCRIPTION = "generate referring expressions for COCO annotations, as a custom.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument(
        "--coco",
        type=local_path,
        required=True,
        help="annotation file, such as instances_train2017.json",
    )
    parser.add_argument("--images", type=local_path, required=True, help="folder with the images")
    parser.add_argument(
        "--out", type=local_path, required=True, help="output folder for custom.json"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    parser.add_argument(
        "--val",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="fraction of the images for val (default: 0.1)",
    )
    parser.add_argument(
        "--test",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="fraction of the images for test (default: 0)",
    )
    parser.add_argument(
        "--views",
        type=int,
        default=0,
        metavar="N",
        help="number of crops and mirror images per train image, with separate sentences",
    )
    parser.add_argument(
        "--draws",
        type=int,
        default=1,
        metavar="N",
        help="number of times to sample sentences for each picture; duplicates are removed",
    )
    parser.add_argument(
        "--words",
        type=local_path,
        metavar="FILE",
        help='JSON with nouns for the categories: {"traffic_cone": ["cone", "traffic cone"]}',
    )
    parser.add_argument(
        "--loose",
        action="store_true",
        help="in train, use words such as man, woman, guy or red shirt for people, although the "
        "annotations do not support them; val and test are not affected",
    )


def run(args: argparse.Namespace) -> int:
    """Generates the expressions and prints their number by kind."""
    from tfds_refcoco.expressions.write import Summary, generate_expressions

    made: Summary = generate_expressions(
        args.coco,
        args.images,
        args.out,
        seed=args.seed,
        val=args.val,
        test=args.test,
        views=args.views,
        draws=args.draws,
        words=args.words,
        loose=args.loose,
    )
    splits = list(made.kinds)
    kinds = {split: Counter[str]() for split in splits}
    for split, of_split in made.kinds.items():
        for kind, number in of_split.items():
            kinds[split][kind_name(kind)] += number
    print(f"{'sentences':<24}" + "".join(f"{split:>9}" for split in splits))
    for kind in sorted({kind for of_split in kinds.values() for kind in of_split}):
        print(f"{kind:<24}" + "".join(f"{kinds[split][kind]:>9,}" for split in splits))
    print(f"{'total':<24}" + "".join(f"{made.kinds[split].total():>9,}" for split in splits))
    print(f"{'images':<24}" + "".join(f"{made.images[split]:>9,}" for split in splits))
    print(
        f"{made.objects:,} objects, {made.words / made.sentences:.2f} words per sentence; "
        f"{made.left_out:,} images without sentences"
    )
    if made.notes:
        print(made.notes)
    print(made.path)
    print(f"Next: python -m tfds_refcoco build --dataset custom --raw {args.out} --out data")
    return 0
