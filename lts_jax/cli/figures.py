"""Draws Figures 4 and 5 of the paper from evaluated runs.

    lts figures --workdir runs/refcoco --split val --sent_ids 17,42
    lts figures --workdir runs/tables/refcoco/lts/seed0 --variants runs/tables/refcoco

Figure 4 shows the image, heatmap H_mask, predicted mask and ground truth. Figure 5 shows the masks
without segmentation, without fusion, without the filter, and with the full model.
"""

import argparse
from pathlib import Path

from lts_jax.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument(
        "--workdir", type=Path, required=True, help="evaluated run of the full model"
    )
    parser.add_argument(
        "--variants", type=Path, help="folder of Table 2's runs, <variant>/seed0, for Figure 5"
    )
    parser.add_argument("--split", default="val", help="evaluated split")
    parser.add_argument(
        "--sent_ids", default="", help="sentences to draw, such as 17,42 (default: a sample)"
    )
    parser.add_argument("--out", type=Path, help="folder (default: <workdir>/figures)")
    parser.add_argument("--data", type=Path, help="folder of the datasets (default: the run's)")


def run(args: argparse.Namespace) -> None:
    """Draws the figures."""
    from lts_jax.io.files import check_inside
    from lts_jax.paper.figures import draw

    sent_ids = [text.strip() for text in args.sent_ids.split(",") if text.strip()]
    if bad := [text for text in sent_ids if not text.isdecimal()]:
        raise ConfigError(f"--sent_ids: {bad[0]!r} is not a sentence id; use integers: 17,42")
    out = args.out or args.workdir / "figures"
    if not args.out:
        check_inside(args.workdir, out)
    written = draw(args.workdir, args.variants, args.split, [*map(int, sent_ids)], out, args.data)
    print("wrote " + ", ".join(map(str, written)))
