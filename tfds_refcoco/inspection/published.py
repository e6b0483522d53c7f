"""Published numbers, to hold a build against."""

from typing import NamedTuple


class Published(NamedTuple):
    """Of one split; None where nothing is published."""

    images: int | None
    refs: int | None
    sentences: int | None


# Images and refs: the README of TensorFlow Datasets' own `ref_coco`. Sentences of RefCOCO and
# RefCOCO+: their authors' totals of 142,210 and 141,564 by split; of RefCOCOg (umd): as papers that
# evaluate on it report. The 26,711 images, 54,822 objects and 104,560 sentences that are often
# given for RefCOCOg count Google's test part in, which was never released.
PUBLISHED: dict[str, dict[str, Published]] = {
    "refcoco_unc": {
        "train": Published(16_994, 42_404, 120_624),
        "val": Published(1_500, 3_811, 10_834),
        "testA": Published(750, 1_975, 5_657),
        "testB": Published(750, 1_810, 5_095),
    },
    "refcoco_google": {
        "train": Published(19_213, 40_000, None),
        "val": Published(4_559, 5_000, None),
        "test": Published(4_527, 5_000, None),
    },
    "refcocoplus_unc": {
        "train": Published(16_992, 42_278, 120_191),
        "val": Published(1_500, 3_805, 10_758),
        "testA": Published(750, 1_975, 5_726),
        "testB": Published(750, 1_798, 4_889),
    },
    "refcocog_umd": {
        "train": Published(21_899, 42_226, 80_512),
        "val": Published(1_300, 2_573, 4_896),
        "test": Published(2_600, 5_023, 9_602),
    },
    "refcocog_google": {
        "train": Published(24_698, 44_822, None),
        "val": Published(4_650, 5_000, None),
    },
}
# Splits that share no image. Google's divide objects, so that their splits do. Of own data nobody
# has said that they may, and scores on images that were trained on would mislead.
DISJOINT_BY_IMAGE = (
    "refcoco_unc",
    "refcocoplus_unc",
    "refcocog_umd",
    "grefcoco_unc",
    "shapes",
    "custom",
)
