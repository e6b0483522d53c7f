"""The paper's numbers: consistency between tables, and samples from the printed pages."""

import pytest

from lts_jax.configs.variants import BEYOND, TABLE_3, VARIANTS
from lts_jax.evaluation.metrics import PRECISION_AT
from lts_jax.paper.numbers import COMPONENTS, TABLES, TITLES, reported

SPLITS = ("val", "testA", "testB")
PRECISIONS = tuple(f"prec@{x}" for x in PRECISION_AT)


def test_tables_and_their_rows():
    rows = {table: list(variants) for table, variants in TABLES.items()}
    assert rows == {
        1: ["lts"],
        2: ["fusion", "filter", "fusion_filter", "fusion_seg", "filter_seg", "no_loc_loss", "lts"],
        3: ["cmpc", "cmpc_seg"],
        4: ["lts", "transformer"],
        5: ["lts", "filters2", "filters3", "word_filter"],
        6: ["size320", "size352", "size384", "size416", "size448", "size480"],
        7: ["lts", "star"],
        "beyond": ["lts", *BEYOND],
    }
    named = {name for names in rows.values() for name in names}
    assert named == {*VARIANTS, *TABLE_3, *BEYOND}
    assert reported("beyond", "lts", "refcoco", "val") == {}
    assert list(TITLES) == list(rows)


def test_table_2_is_complete():
    for row in TABLES[2].values():
        assert list(row) == ["refcoco"]
        assert tuple(row["refcoco"]) == SPLITS
        for numbers in row["refcoco"].values():
            assert tuple(numbers) == ("iou", *PRECISIONS)
            precisions = [numbers[name] for name in PRECISIONS]
            assert precisions == sorted(precisions, reverse=True)
            assert len(set(precisions)) == 5


def test_table_2_sums():
    """Column sums over the seven rows, computed from the printed table."""
    table = TABLES[2]
    for split, sums in {
        "val": (424.17, 480.45, 425.82, 361.76, 256.80, 76.02),
        "testA": (438.37, 497.56, 447.73, 380.90, 272.09, 70.62),
        "testB": (408.39, 456.23, 400.38, 334.97, 243.83, 94.44),
    }.items():
        for name, expected in zip(("iou", *PRECISIONS), sums, strict=True):
            total = sum(row["refcoco"][split][name] for row in table.values())
            assert total == pytest.approx(expected, abs=1e-9), (split, name)


def test_the_full_model_is_the_same_in_every_table():
    full = TABLES[1]["lts"]
    for table, row in ((2, "lts"), (4, "lts"), (5, "lts"), (6, "size416"), (7, "lts")):
        for family, splits in TABLES[table][row].items():
            for split, numbers in splits.items():
                assert numbers["iou"] == full[family][split]["iou"], (table, family, split)


def test_differences_in_the_papers_text():
    """The differences in Section 4.4 confirm the order of the rows of Table 2."""
    val = {name: row["refcoco"]["val"]["iou"] for name, row in TABLES[2].items()}
    assert val["fusion_filter"] - val["filter"] == pytest.approx(2.4, abs=0.05)
    assert val["no_loc_loss"] - val["filter_seg"] == pytest.approx(1.4, abs=0.05)
    assert val["fusion_filter"] - val["fusion"] == pytest.approx(1.9, abs=0.05)
    assert val["no_loc_loss"] - val["fusion_seg"] == pytest.approx(1.5, abs=0.0501)
    two = TABLES[5]["filters2"]["refcoco"]["val"]["iou"]
    assert two - val["lts"] == pytest.approx(0.61)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ((1, "lts", "refcoco", "testB"), 63.08),
        ((1, "lts", "refcocoplus", "testA"), 58.32),
        ((1, "lts", "refcocoplus", "testB"), 48.02),
        ((1, "lts", "refcocog", "test"), 54.25),
        ((3, "cmpc", "refcoco", "val"), 61.36),
        ((3, "cmpc_seg", "refcoco", "testB"), 61.08),
        ((4, "transformer", "refcoco", "val"), 66.15),
        ((4, "transformer", "refcocoplus", "val"), 54.52),
        ((4, "transformer", "refcocog", "val"), 54.51),
        ((5, "filters2", "refcoco", "testA"), 68.68),
        ((5, "filters2", "refcoco", "testB"), 63.27),
        ((5, "filters3", "refcoco", "val"), 65.54),
        ((5, "filters3", "refcoco", "testB"), 62.97),
        ((5, "word_filter", "refcoco", "val"), 64.92),
        ((5, "word_filter", "refcoco", "testA"), 67.31),
        ((6, "size320", "refcoco", "val"), 63.01),
        ((6, "size352", "refcoco", "testA"), 66.24),
        ((6, "size384", "refcoco", "testB"), 62.47),
        ((6, "size448", "refcoco", "testA"), 67.90),
        ((6, "size480", "refcoco", "testB"), 63.45),
        ((7, "star", "refcoco", "val"), 66.75),
        ((7, "star", "refcocoplus", "val"), 54.94),
        ((7, "star", "refcocog", "val"), 54.51),
    ],
)
def test_spots(where, expected):
    assert reported(*where)["iou"] == expected


def test_larger_inputs_are_better():
    for split in SPLITS:
        values = [row["refcoco"][split]["iou"] for row in TABLES[6].values()]
        assert values == sorted(values)


def test_numbers():
    assert reported(2, "lts", "refcoco", "val")["pointing"] == 81.74
    assert "pointing" not in reported(2, "lts", "refcoco", "testA")
    assert "pointing" not in reported(2, "filter", "refcoco", "val")
    assert reported(2, "lts", "refcocog", "val") == {}
    assert reported(4, "transformer", "refcoco", "testA") == {}
    # `reported` returns a copy, so that callers cannot change the tables.
    reported(1, "lts", "refcoco", "val")["iou"] = 0.0
    assert reported(1, "lts", "refcoco", "val")["iou"] == 65.43


def test_components_are_the_variants():
    """The ticks match the configs of the variants."""
    assert list(COMPONENTS) == list(TABLES[2])
    for name, ticks in COMPONENTS.items():
        fields = VARIANTS[name]
        assert ticks == (
            fields.get("model.fuse", True),
            fields.get("model.locate", "filter") == "filter",
            fields.get("model.segment", True),
            fields.get("train.location_weight", 1.0) > 0,
        ), name
