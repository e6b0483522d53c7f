"""The numbers of the paper's tables, in percent, as printed."""

from lts_jax.configs.variants import BEYOND

Metrics = dict[str, float]
Splits = dict[str, Metrics]
Table = dict[str, dict[str, Splits]]

# Family by tfds_refcoco's name of the dataset.
FAMILIES = {
    "refcoco_unc": "refcoco",
    "refcocoplus_unc": "refcocoplus",
    "refcocog_umd": "refcocog",
}
FAMILY_NAMES = {"refcoco": "RefCOCO", "refcocoplus": "RefCOCO+", "refcocog": "RefCOCOg"}

TITLES: dict[int | str, str] = {
    1: "the full model",
    2: "ablation of the components",
    3: "the segmenter on another network, CMPC",
    4: "a transformer instead of the filter",
    5: "several filters, and one filter per word",
    6: "input resolution",
    7: "transformer, two rounds and larger input combined",
    "beyond": "finer edges and better grounding",
}

COMPONENT_NAMES = ("Fusion", "Filter", "Seg", "L_loc")
COMPONENTS: dict[str, tuple[bool, bool, bool, bool]] = {
    "fusion": (True, False, False, False),
    "filter": (False, True, False, False),
    "fusion_filter": (True, True, False, False),
    "fusion_seg": (True, False, True, False),
    "filter_seg": (False, True, True, False),
    "no_loc_loss": (True, True, True, False),
    "lts": (True, True, True, True),
}

# Section 4.3: how often the heatmap's maximum is inside the mask.
_POINTING = {("lts", "refcoco", "val"): 81.74}

_TABLE_2_METRICS = ("iou", "prec@0.5", "prec@0.6", "prec@0.7", "prec@0.8", "prec@0.9")
_TABLE_2 = {
    "fusion": {
        "val": (55.08, 60.58, 51.26, 41.55, 27.15, 6.76),
        "testA": (56.82, 62.49, 53.60, 42.87, 28.27, 6.65),
        "testB": (53.52, 59.20, 49.64, 39.20, 26.22, 8.58),
    },
    "filter": {
        "val": (54.53, 60.43, 50.00, 39.03, 24.95, 5.85),
        "testA": (56.05, 61.66, 51.76, 40.32, 25.61, 5.67),
        "testB": (52.55, 56.45, 46.91, 37.45, 24.10, 8.03),
    },
    "fusion_filter": {
        "val": (56.94, 63.49, 54.20, 44.13, 29.43, 8.36),
        "testA": (58.53, 64.52, 55.65, 45.59, 30.51, 7.94),
        "testB": (55.12, 60.61, 51.21, 41.32, 29.07, 10.64),
    },
    "fusion_seg": {
        "val": (63.50, 72.84, 65.85, 57.61, 42.33, 13.41),
        "testA": (65.31, 75.32, 69.45, 60.46, 44.76, 11.38),
        "testB": (60.97, 69.13, 62.24, 53.39, 39.65, 15.68),
    },
    "filter_seg": {
        "val": (63.64, 72.94, 66.52, 58.01, 42.84, 13.20),
        "testA": (66.41, 77.00, 71.27, 62.63, 46.65, 12.82),
        "testB": (60.72, 68.03, 61.14, 52.60, 39.59, 16.68),
    },
    "no_loc_loss": {
        "val": (65.05, 75.01, 68.48, 60.69, 44.93, 14.03),
        "testA": (67.49, 78.10, 72.87, 64.47, 48.31, 13.24),
        "testB": (62.43, 70.99, 64.65, 55.27, 42.41, 17.48),
    },
    "lts": {
        "val": (65.43, 75.16, 69.51, 60.74, 45.17, 14.41),
        "testA": (67.76, 78.47, 73.13, 64.56, 47.98, 12.92),
        "testB": (63.08, 71.82, 64.59, 55.74, 42.79, 17.35),
    },
}


def _refcoco(val: float, test_a: float, test_b: float) -> dict[str, Splits]:
    return {"refcoco": {"val": {"iou": val}, "testA": {"iou": test_a}, "testB": {"iou": test_b}}}


def _val(refcoco: float, refcocoplus: float, refcocog: float) -> dict[str, Splits]:
    return {
        "refcoco": {"val": {"iou": refcoco}},
        "refcocoplus": {"val": {"iou": refcocoplus}},
        "refcocog": {"val": {"iou": refcocog}},
    }


# Table -> variant -> family -> split -> metric, in the order of the tables' rows. The table
# "beyond" lists variants that are not in the paper.
TABLES: dict[int | str, Table] = {
    1: {
        "lts": {
            "refcoco": {"val": {"iou": 65.43}, "testA": {"iou": 67.76}, "testB": {"iou": 63.08}},
            "refcocoplus": {
                "val": {"iou": 54.21},
                "testA": {"iou": 58.32},
                "testB": {"iou": 48.02},
            },
            "refcocog": {"val": {"iou": 54.40}, "test": {"iou": 54.25}},
        }
    },
    2: {
        variant: {
            "refcoco": {
                split: dict(zip(_TABLE_2_METRICS, numbers, strict=True))
                for split, numbers in splits.items()
            }
        }
        for variant, splits in _TABLE_2.items()
    },
    3: {"cmpc": _refcoco(61.36, 64.53, 59.64), "cmpc_seg": _refcoco(62.75, 65.34, 61.08)},
    4: {"lts": _val(65.43, 54.21, 54.40), "transformer": _val(66.15, 54.52, 54.51)},
    5: {
        "lts": _refcoco(65.43, 67.76, 63.08),
        "filters2": _refcoco(66.04, 68.68, 63.27),
        "filters3": _refcoco(65.54, 67.82, 62.97),
        "word_filter": _refcoco(64.92, 67.31, 62.50),
    },
    6: {
        "size320": _refcoco(63.01, 65.40, 60.78),
        "size352": _refcoco(64.04, 66.24, 61.76),
        "size384": _refcoco(64.45, 67.02, 62.47),
        "size416": _refcoco(65.43, 67.76, 63.08),
        "size448": _refcoco(65.71, 67.90, 63.23),
        "size480": _refcoco(65.90, 68.16, 63.45),
    },
    7: {"lts": _val(65.43, 54.21, 54.40), "star": _val(66.75, 54.94, 54.51)},
    "beyond": {name: {} for name in ("lts", *BEYOND)},
}


def table_name(table: int | str) -> str:
    """Returns the name of a table's files, such as "table2", or "beyond"."""
    return f"table{table}" if isinstance(table, int) else table


def reported(table: int | str, variant: str, family: str, split: str) -> Metrics:
    """Returns the numbers that the paper reports for a row, in percent; may be empty.

    Args:
      table: a key of `TABLES`.
      variant: a row of that table.
      family: a key of `FAMILY_NAMES`.
      split: such as "val".

    Returns:
      "iou" (the paper does not specify whether it is oIoU or mIoU), in Table 2 also "prec@0.5" to
      "prec@0.9", and "pointing" if Section 4.3 reports it.
    """
    row = TABLES[table][variant]
    metrics = dict(row.get(family, {}).get(split, {}))
    if row and (variant, family, split) in _POINTING:
        metrics["pointing"] = _POINTING[variant, family, split]
    return metrics
