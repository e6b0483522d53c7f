"""Figures 4 and 5 of the paper, drawn from evaluated runs.

Figure 4: image, heatmap H_mask, predicted mask and ground truth. Figure 5: the masks of the models
without segmentation, fusion or filter, and of the full model.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from lts_jax.errors import ConfigError
from lts_jax.evaluation.saved import Evaluated, Sentence
from lts_jax.io import drawing
from lts_jax.io.drawing import Example
from lts_jax.io.files import write_picture

# Variants of Figure 5's columns (b), (c), (d), and their titles.
VARIANTS = {
    "fusion_filter": "w/o segmentation",
    "filter_seg": "w/o fusion",
    "fusion_seg": "w/o filter",
}
DEFAULT = 6  # sentences, if none are selected


def figure4(evaluated: Evaluated, rows: Sequence[int]) -> Image.Image:
    """Draws image, heatmap of the last round, prediction and ground truth of each sentence.

    Raises:
      ConfigError: the network has no heatmap.
    """
    if evaluated.heatmaps is None:
        raise ConfigError(
            f"{evaluated.folder}: no heatmaps.npz, because the network has no locator; figure 4 "
            "requires a network with one (model.locate)"
        )
    drawn = []
    for row in rows:
        drawn.append(drawing.row(_example(evaluated.sentence(row))))
    return drawing.draw_sheet(drawn, columns=2)


def figure5(full: Evaluated, others: dict[str, Evaluated], rows: Sequence[int]) -> Image.Image:
    """Draws the masks of the ablated models and of the full model.

    Args:
      full: evaluation of the full model.
      others: evaluations of the ablated models by title.
      rows: of the sentences.
    """
    drawn = []
    for row in rows:
        example = _example(full.sentence(row))
        of_row = drawing.pictures(example)
        shown = {"image": of_row["image"]}
        for title, evaluated in others.items():
            other = example._replace(prediction=evaluated.sentence(row).prediction())
            shown[title] = drawing.pictures(other)["prediction"]
        shown |= {"LTS": of_row["prediction"], "gt": of_row["truth"]}
        drawn.append(drawing.Row(example.sentence, example.iou, shown))
    return drawing.draw_sheet(drawn, columns=1)


def choose_rows(evaluated: Evaluated, sent_ids: Sequence[int]) -> list[int]:
    """Returns the rows of `sent_ids`, or evenly spaced rows if there are none.

    Raises:
      ConfigError: a sent_id is not in the split.
    """
    known = {entry["sent_id"]: row for row, entry in enumerate(evaluated.predictions)}
    if missing := [i for i in sent_ids if i not in known]:
        raise ConfigError(
            f"--sent_ids: {missing[0]} is not in {evaluated.name}; see predictions.json in "
            f"{evaluated.folder}"
        )
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
      variants: folder with the runs of Table 2, `<variant>/seed0`.
      split: an evaluated split.
      sent_ids: of the sentences to draw; empty selects some.
      out_dir: folder of the figures.
      data_dir: folder of the datasets; None uses the runs' `data.dir`.

    Raises:
      ConfigError: an evaluation is missing, or used other data.
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
