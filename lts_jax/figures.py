"""The command that draws Figures 4 and 5 of the paper from evaluated runs.

    python -m lts_jax.figures --workdir runs/refcoco --split val --sent_ids 17,42
    python -m lts_jax.figures --workdir runs/tables/refcoco/lts/seed0 \
      --variants runs/tables/refcoco --split val

Figure 4: image, heatmap H_mask, predicted mask, truth. Figure 5: the masks without segmentation,
without fusion, without filter, and of the full model.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import app, flags, logging
from PIL import Image

from lts_jax import visualize
from lts_jax.cli import parse_flags
from lts_jax.errors import ConfigError
from lts_jax.evaluated import Evaluated, Sentence
from lts_jax.visualize import Example
from lts_jax.writers import write_picture
from tfds_refcoco import DataError

# Figure 5's columns (b), (c), (d), by the variant that each is.
VARIANTS = {
    "fusion_filter": "w/o segmentation",
    "filter_seg": "w/o fusion",
    "fusion_seg": "w/o filter",
}
DEFAULT = 6  # sentences where none are chosen


def figure4(evaluated: Evaluated, rows: Sequence[int]) -> Image.Image:
    """Draws image, heatmap of the last round, prediction and truth of each sentence.

    Raises:
      ConfigError: the network makes no heatmap.
    """
    if evaluated.heatmaps is None:
        raise ConfigError(f"{evaluated.folder}: no heatmaps.npz: this network has no locator")
    drawn = []
    for row in rows:
        example = _example(evaluated.sentence(row))
        of_row = visualize.pictures(example)
        drawn.append((example.sentence, example.iou, of_row))
    return visualize.draw_sheet(drawn, columns=2)


def figure5(full: Evaluated, others: dict[str, Evaluated], rows: Sequence[int]) -> Image.Image:
    """Draws the masks of the networks that lack a part beside the full model's.

    Args:
      full: the full model.
      others: by title.
      rows: sentences.
    """
    drawn = []
    for row in rows:
        example = _example(full.sentence(row))
        of_row = visualize.pictures(example)
        shown = {"image": of_row["image"]}
        for title, evaluated in others.items():
            other = example._replace(prediction=evaluated.sentence(row).prediction())
            shown[title] = visualize.pictures(other)["prediction"]
        shown |= {"LTS": of_row["prediction"], "gt": of_row["truth"]}
        drawn.append((example.sentence, example.iou, shown))
    return visualize.draw_sheet(drawn, columns=1)


def choose_rows(evaluated: Evaluated, sent_ids: Sequence[int]) -> list[int]:
    """Returns rows of the predictions, those of `sent_ids` or some that are spread evenly.

    Raises:
      ConfigError: a sent_id is not in the split.
    """
    known = {entry["sent_id"]: row for row, entry in enumerate(evaluated.predictions)}
    if missing := [i for i in sent_ids if i not in known]:
        raise ConfigError(f"--sent_ids: {missing[0]} is not in {evaluated.name}")
    if sent_ids:
        return [known[i] for i in sent_ids]
    n = len(evaluated.predictions)
    return sorted(set(np.linspace(0, n - 1, min(DEFAULT, n)).astype(int).tolist()))


def draw(
    workdir: Path,
    variants: Path | None,
    split: str,
    sent_ids: Sequence[int],
    out_dir: Path,
    data_dir: Path | None = None,
) -> list[Path]:
    """Writes figure4.png and, with `variants`, figure5.png; returns the files.

    Args:
      workdir: of the full model's run.
      variants: folder of the runs of Table 2, `<variant>/seed0`.
      split: that was evaluated.
      sent_ids: which sentences.
      out_dir: folder of the figures.
      data_dir: where the data sets lie; where the runs had them if None.

    Raises:
      ConfigError: an evaluation is missing, or of other data.
      tfds_refcoco.DataError: the data is missing.
    """
    full = Evaluated.read(workdir, split, data_dir)
    rows = choose_rows(full, sent_ids)
    others = {}
    for variant, title in VARIANTS.items() if variants else ():
        folder = Path(variants or "") / variant / "seed0"
        others[title] = Evaluated.read(folder, split, data_dir)
    written = [out_dir / "figure4.png"]
    write_picture(written[0], figure4(full, rows))
    if others:
        written.append(out_dir / "figure5.png")
        write_picture(written[1], figure5(full, others, rows))
    return written


def _example(sentence: Sentence) -> Example:
    maps = sentence.heatmaps(sentence.height, sentence.width)
    return Example(
        image=sentence.image(),
        sentence=sentence.entry["sentence"],
        iou=sentence.entry["iou"],
        heatmaps={"heatmap": maps[-1]} if maps else {},
        prediction=sentence.prediction(),
        truth=sentence.truth(),
    )


def define_flags() -> None:
    """Defines the command's flags; not on import, as other commands have some of their names."""
    flags.DEFINE_string("workdir", None, "Evaluated run of the full model.")
    flags.DEFINE_string("variants", None, "Folder of Table 2's runs, <variant>/seed0: Figure 5.")
    flags.DEFINE_string("split", "val", "Evaluated split.")
    flags.DEFINE_list("sent_ids", [], "Sentences to draw; some of all where not given.")
    flags.DEFINE_string("out", None, "Folder; figures in the workdir where not given.")
    flags.DEFINE_string("data", None, "Folder of the data sets; the run's where not given.")
    flags.mark_flag_as_required("workdir")


def main(argv: list[str]) -> None:
    """Runs what the flags say."""
    if len(argv) > 1:
        sys.exit(f"error: unknown arguments: {' '.join(argv[1:])}")
    logging.set_verbosity(logging.WARNING)
    given = flags.FLAGS
    bad = [text for text in given.sent_ids if not text.strip().isdecimal()]
    if bad:
        sys.exit(f"error: --sent_ids: {bad[0]!r} is no whole number")
    try:
        written = draw(
            Path(given.workdir),
            Path(given.variants) if given.variants else None,
            given.split,
            [int(text) for text in given.sent_ids],
            Path(given.out or Path(given.workdir) / "figures"),
            Path(given.data) if given.data else None,
        )
    except (ConfigError, DataError, OSError) as error:
        sys.exit(f"error: {error}")
    print("wrote " + ", ".join(map(str, written)))


if __name__ == "__main__":
    define_flags()
    app.run(main, flags_parser=parse_flags)
