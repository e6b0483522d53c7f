"""The report of a table, with fake runs."""

import json

import pytest

from lts_jax.paper import runs, tables
from tests.lts_jax.helpers.fake_runs import CONFIG, make, write_results


def test_mean_and_sample_standard_deviation(fake, tmp_path):
    fake.scores = {("lts", 0): 0.60, ("lts", 1): 0.62, ("lts", 2): 0.67}
    report = make(tmp_path, table=1, seeds=3)
    oiou = report["rows"][0]["ours"]["testA"]["oiou"]
    # Mean 63; deviations -3, -1, 4; (9 + 1 + 16) / 2 = 13.
    assert oiou == {"mean": pytest.approx(63.0), "std": pytest.approx(13**0.5), "n": 3}
    assert "| lts | 3 | 63.00 ± 3.61 | 31.50 ± 1.80 | 67.76 | 25.0 ± 0.0 |" in (
        tmp_path / "table1.md"
    ).read_text().replace("± 0.00", "± 0.0")


def test_markdown(fake, tmp_path):
    fake.scores = {("lts", 0): 0.60, ("lts", 1): 0.62, ("transformer", 0): 0.64}
    fake.failing = {("transformer", 1)}
    with pytest.raises(runs.RunError):
        make(tmp_path, seeds=2, overrides=["--config.eval.splits=('val',)"])
    precisions = "25.0 ± 0.0 | " * 5
    assert (tmp_path / "table4.md").read_text().splitlines() == [
        "# Table 4 on shapes: a transformer instead of the filter",
        "",
        "`configs/shapes.py --config.eval.splits=('val',)`; 3 of 4 runs, seeds 0 to 1; 2.2 epochs; "
        "λ = 1.0; best checkpoints at step 10; 1 × cpu (cpu); jax 0.10.0.",
        "",
        "In percent. Ours: mean ± sample standard deviation over n seeds. The column `paper` and "
        "numbers after a slash are from the paper, which does not specify its kind of IoU.",
        "",
        "The paper has no Table 4 on shapes. Its numbers here are for RefCOCO, so only the ranking "
        "of the rows can be compared.",
        "",
        "## val: 60 sentences of 6 images",
        "",
        "| variant | n | oIoU | mIoU | paper | prec@0.5 | prec@0.6 | prec@0.7 | prec@0.8 | "
        "prec@0.9 | pointing | acc@0.5 |",
        "| :-- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
        "| lts | 2 | 61.00 ± 1.41 | 30.50 ± 0.71 | 65.43 | " + precisions + "80.0 ± 0.0 / 81.74 | "
        "25.0 ± 0.0 |",
        "| transformer | 1 | 64.00 | 32.00 | 66.15 | " + "25.0 | " * 5 + "80.0 | 25.0 |",
    ]


def test_table_2_has_ticks_and_the_papers_precisions(fake, tmp_path):
    make(tmp_path, table=2)
    lines = (tmp_path / "table2.md").read_text().splitlines()
    ticks = [line.split(" | ")[:5] for line in lines if line.startswith("| ")][2:9]
    assert ticks == [
        ["| fusion", "✓", "", "", ""],
        ["| filter", "", "✓", "", ""],
        ["| fusion_filter", "✓", "✓", "", ""],
        ["| fusion_seg", "✓", "", "✓", ""],
        ["| filter_seg", "", "✓", "✓", ""],
        ["| no_loc_loss", "✓", "✓", "✓", ""],
        ["| lts", "✓", "✓", "✓", "✓"],
    ]
    assert lines[14].endswith(
        "| 1 | 50.00 | 25.00 | 55.08 | 25.0 / 60.58 | 25.0 / 51.26 | 25.0 / 41.55 | "
        "25.0 / 27.15 | 25.0 / 6.76 | 80.0 | 25.0 |"
    )


def test_the_best_threshold_on_val(fake, tmp_path):
    fake.thresholds = {0: 0.4, 1: 0.5}
    report = make(tmp_path, table=1, seeds=2)
    at_best = report["rows"][0]["ours_at_best_threshold"]["val"]
    assert at_best["threshold"]["mean"] == pytest.approx(0.45) and report["threshold"] == 0.25
    assert at_best["oiou"]["mean"] == pytest.approx(60)
    text = (tmp_path / "table1.md").read_text()
    assert "The first table of a split uses the threshold 0.25. The second" in text
    first, second = [line for line in text.splitlines() if line.startswith("| lts |")][:2]
    assert first.startswith("| lts | 2 | 50.00 ± 0.00 | 25.00 ± 0.00 | 65.43 |")
    assert second.startswith("| lts | 2 | 0.45 ± 0.07 | 60.00 ± 0.00 | 30.00 ± 0.00 | 65.43 |")
    assert text.count("val, at the best threshold on val:") == 1


def test_null_pointing(fake, tmp_path):
    run = tables.plan(CONFIG, 2, 1, [], tmp_path)["fusion"][0]
    write_results(run.workdir, run.config, 0.5, pointing=None)
    report = make(tmp_path, table=2, read_only=True)
    assert report["rows"][0]["ours"]["val"]["pointing"] is None
    assert report["rows"][0]["ours"]["val"]["oiou"] == {"mean": 50.0, "std": None, "n": 1}
    row = (tmp_path / "table2.md").read_text().splitlines()[14]
    assert row.startswith("| fusion |") and row.endswith(" | \N{EN DASH} | 25.0 |")


def test_read_only_without_runs(fake, tmp_path, capsys):
    report = make(tmp_path, table=2, seeds=3, read_only=True)
    assert fake.started == []
    assert all(metric is None for metric in report["rows"][6]["ours"]["val"].values())
    absent = "\N{EN DASH}"
    out = capsys.readouterr().out
    assert "0 of 21 runs, seeds 0 to 2; 2.2 epochs; λ = 1.0." in out
    assert f"| lts | ✓ | ✓ | ✓ | ✓ | 0 | {absent} | {absent} | 65.43 | {absent} / 75.16 |" in out


@pytest.mark.parametrize(
    ("dataset", "table", "family", "comparable"),
    [
        ("refcoco", 2, "RefCOCO", True),
        ("refcoco", 3, "RefCOCO", True),
        ("refcocoplus", 4, "RefCOCO+", True),
        ("refcocoplus", 2, "RefCOCO", False),
        ("refcocog", 1, "RefCOCOg", True),
        ("shapes", 1, "RefCOCO", False),
    ],
)
def test_the_papers_numbers_for_a_data_set(fake, tmp_path, dataset, table, family, comparable):
    tables.make_table(f"configs/{dataset}.py", table, 1, 1, tmp_path, [], read_only=True)
    report = json.loads((tmp_path / f"table{table}.json").read_text())
    assert (report["paper_dataset"], report["comparable"]) == (family, comparable)
    assert ("only the ranking of the rows" in (tmp_path / f"table{table}.md").read_text()) != (
        comparable
    )


def test_note_of_table_3(fake, tmp_path):
    report = make(tmp_path, table=3, read_only=True)
    assert [row["location_weight"] for row in report["rows"]] == [0.0, 1.0]
    assert "refines masks with a DenseCRF" in (tmp_path / "table3.md").read_text()


def test_a_part_of_a_published_split_is_not_comparable(fake, tmp_path):
    """The fake runs have 60 sentences; RefCOCO's val has 10,834."""
    tables.make_table("configs/refcoco.py", 1, 1, 1, tmp_path, [])
    report = json.loads((tmp_path / "table1.json").read_text())
    assert not report["comparable"]
    assert report["partial_splits"] == ["val", "testA", "testB"]
    assert (
        "val, testA, testB of refcoco_unc were not evaluated on all published sentences"
        in (tmp_path / "table1.md").read_text()
    )
