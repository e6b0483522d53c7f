"""What a perfect map could reach on shapes' val: the truth itself, sampled at a stride and scored.

python docs/results/table2/ceiling.py data    # from the root; `data` holds the built set
"""

import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import tfds_refcoco
from lts_jax.data import examples, image_ops
from lts_jax.evaluation import metrics
from lts_jax.steps import original_size

split = tfds_refcoco.open_dataset(Path(sys.argv[1]), "shapes").split("val")
index = split.index
for size in (96, 128):
    for stride, who in ((8, "without a segmenter"), (4, "with a segmenter")):
        counts = []
        for row in range(len(index)):
            h, w = int(index.height[row]), int(index.width[row])
            record = split.record(int(index.record[row]))
            truth = examples.read_mask(record, int(index.sentence[row]), h, w) > 0
            place = image_ops.place(h, w, size, "letterbox")
            grid = image_ops.fit_mask(truth.astype(np.uint8), place, size, stride)
            full = original_size.to_original_size(
                jnp.asarray(grid, jnp.float32)[None], jnp.array([place]), (h, w), stride
            )
            found = np.asarray(full[0]) > 0.25
            counts.append(((found & truth).sum(), (found | truth).sum()))
        intersection, union = np.array(counts).T
        scores = metrics.summarize(intersection, union, None)
        shown = "  ".join(f"{k} {100 * scores[k]:.1f}" for k in ("oiou", "miou", "prec@0.8"))
        print(f"{size} x {size}, {who}: {shown}")
