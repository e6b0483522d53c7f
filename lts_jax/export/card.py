"""The model card of an exported network for the Hugging Face Hub."""

from collections.abc import Mapping
from typing import Any

from lts_jax.experiment.restore import Trained
from lts_jax.experiment.thresholds import name_of

_METRICS = {"oiou": "oIoU", "miou": "mIoU", "prec@0.5": "prec@0.5", "pointing": "pointing"}

_CARD = """---
library_name: lts_jax
pipeline_tag: image-segmentation
tags: [referring-image-segmentation, {name}, jax]
---

# {title}

Referring image segmentation by {network}:
the input is an image and a phrase, the output is the mask of the object that the phrase refers to.

```sh
pip install lts_jax
lts predict --model FOLDER --image photo.jpg --text "left cup" --out predictions
```

```python
import lts_jax

predictor = lts_jax.Predictor.from_pretrained("FOLDER")  # or "hf://owner/name"
[prediction] = predictor("photo.jpg", "left cup")
prediction.mask  # bool [h, w]
```

## Network

{backbone} backbone, {size} × {size} pixels, {parameters:,} parameters, including BatchNorm
statistics, and a vocabulary of {words:,} words or word pieces. A phrase is truncated after
{max_words} of them. Matrices are stored as float16, all other arrays as float32.

## Data

Trained on `{train_split}` of `{dataset}`: {images:,} images, {sentences:,} sentences.

[More information needed: the sources and licenses of the images and annotations.]

## Scores

{scores}

## Intended uses and limitations

[More information needed: intended uses, out-of-scope uses and known limitations.]

SHA-256 of `model.safetensors`: `{sha256}`.
"""


def write_card(trained: Trained, described: Mapping[str, Any]) -> str:
    """Returns the text of README.md; the author of the network adds the missing information.

    Args:
      trained: the network.
      described: the content of its config.json.
    """
    experiment = trained.experiment
    config = experiment.config
    data = trained.data
    return _CARD.format(
        title=f"{config.model.network.upper()}, trained on {config.data.dataset}",
        name=config.model.network,
        network=experiment.model.title,
        backbone=config.model.backbone,
        size=config.data.image_size,
        parameters=sum(value.size for value in trained.arrays.values()),
        words=len(experiment.vocabulary.words),
        max_words=config.data.max_words,
        train_split=config.data.train_split,
        dataset=config.data.dataset,
        images=data.get("images", 0),
        sentences=data.get("sentences", 0),
        scores=scores_table(described["scores"]),
        sha256=described["sha256"],
    )


def scores_table(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns a Markdown table of the metrics by split, in percent."""
    if not scores:
        return "Not evaluated."
    lines = [f"| split | {' | '.join(_METRICS.values())} |", "|---" * (1 + len(_METRICS)) + "|"]
    for split, of_split in scores.items():
        for part in (of_split, *([of_split["other"]] if "other" in of_split else [])):
            cells = [
                "" if part.get(name) is None else f"{100 * part[name]:.1f}" for name in _METRICS
            ]
            at = f" at {name}" if (name := name_of(part)) else ""
            lines.append(f"| {split}{at} | {' | '.join(cells)} |")
    return "\n".join(lines)
