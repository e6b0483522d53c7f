"""Published counts, for comparison with a build."""

from typing import NamedTuple


class Published(NamedTuple):
    """Counts of one split; None if not published."""

    images: int | None
    refs: int | None
    sentences: int | None


# Images and refs: the README of TensorFlow Datasets' `ref_coco`. Sentences of RefCOCO and RefCOCO+:
# the authors' totals of 142,210 and 141,564, by split. Sentences of RefCOCOg (umd): papers that
# evaluate on it. The 26,711 images, 54,822 objects and 104,560 sentences that are often reported
# for RefCOCOg include Google's test split, which was never released.
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
# Datasets whose splits must not share images. Google's splits divide objects instead. Custom data
# must be disjoint, because scores on training images would be misleading.
DISJOINT_BY_IMAGE = (
    "refcoco_unc",
    "refcocoplus_unc",
    "refcocog_umd",
    "grefcoco_unc",
    "shapes",
    "custom",
)
