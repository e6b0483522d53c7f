"""Writes an HTML report on an evaluated run; the file opens offline in any browser.

lts report runs/refcoco
"""

import argparse
from pathlib import Path

from lts_jax.cli.arguments import positive
from lts_jax.paper.numbers import TABLES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("workdir", type=Path, help="folder of an evaluated run")
    parser.add_argument("--out", type=Path, help="HTML file (default: <workdir>/report.html)")
    parser.add_argument(
        "--variant",
        default="lts",
        choices=sorted({variant for table in TABLES.values() for variant in table}),
        help="row of the paper's tables to compare with",
    )
    parser.add_argument(
        "--sentences",
        type=positive,
        default=10000,
        help="maximum number of sentences in the gallery",
    )
    parser.add_argument("--data", type=Path, help="folder of the datasets (default: the run's)")


def run(args: argparse.Namespace) -> None:
    """Writes the report."""
    from lts_jax.io.files import write_text
    from lts_jax.reporting.page import make_report

    page = make_report(args.workdir, args.variant, args.sentences, args.data)
    out = args.out or args.workdir / "report.html"
    write_text(out, page)
    print(f"wrote {out}, {out.stat().st_size / 1e6:.1f} MB")
