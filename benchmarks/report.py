"""Measures the size of a report on many sentences with real photos, and its browser load time.

    python -m benchmarks.report --photos DIR --out FOLDER [--sentences 10000] [--images 1500]

DIR contains `instances.json` and `images/` in COCO's layout. Photos are repeated up to the number
of images; predictions are shifted ground-truth masks. Requires chromium, chromedriver and selenium.
"""

import json
import tempfile
import time
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.arguments import make_parser, parse_arguments
from lts_jax.configs import refcoco
from lts_jax.configs.fields import plain_config
from lts_jax.evaluation import metrics, results
from lts_jax.evaluation.saved import Evaluated
from lts_jax.experiment.thresholds import Threshold
from lts_jax.io.files import write_text
from lts_jax.reporting.page import make_report
from tfds_refcoco import masks

_TEXT = "left right man woman red blue shirt on the in near second from dog cup white big"
WORDS = _TEXT.split()


class Photos:
    """A split of photos, with the attributes that evaluation and report need."""

    def __init__(self, folder: Path, images: int, sentences: int) -> None:
        raw = json.loads((folder / "instances.json").read_text(encoding="utf-8"))
        by_image: dict[int, list[Any]] = {}
        for entry in raw["annotations"]:
            by_image.setdefault(entry["image_id"], []).append(entry)
        names = {entry["id"]: entry["name"] for entry in raw["categories"]}
        photos = [entry for entry in raw["images"] if entry["id"] in by_image]
        rng = np.random.default_rng(0)
        columns: dict[str, list[Any]] = {}
        self.records: list[dict[str, Any]] = []
        for number in range(images):
            photo = photos[number % len(photos)]
            h, w, objects = photo["height"], photo["width"], by_image[photo["id"]]
            count = sentences // images + (number < sentences % images)
            counts = [masks.from_segmentation(e["segmentation"], h, w) for e in objects]
            target = np.arange(count, dtype=np.int32) // 2 % len(objects)
            jpeg = (folder / "images" / photo["file_name"]).read_bytes()
            at = np.arange(count, dtype=np.int32)
            self.records.append(
                {
                    "image": jpeg,
                    "height": h,
                    "width": w,
                    "objects": {"mask": counts},
                    "targets": {"sentence": at, "object": target},
                }
            )
            for i in range(count):
                row = {
                    "record": number,
                    "sentence": i,
                    "sent_id": len(columns.get("text", [])),
                    "ref_id": 1000 * number + int(target[i]),
                    "image_id": number,
                    "height": h,
                    "width": w,
                    "area": masks.area(counts[target[i]], h, w),
                    "same_category": len(objects),
                    "category": names[objects[target[i]]["category_id"]],
                    "text": " ".join(rng.choice(WORDS, rng.integers(1, 9))),
                    "kind": "",
                }
                for name, value in row.items():
                    columns.setdefault(name, []).append(value)
        arrays: dict[str, Any] = {k: np.array(v) for k, v in columns.items()}
        arrays |= {name: columns[name] for name in ("text", "category", "kind")}
        self.index = types.SimpleNamespace(**arrays)
        self.counts = types.SimpleNamespace(images=images)

    def record(self, number: int) -> dict[str, Any]:
        """As `tfds_refcoco.records.reader.Split.record`."""
        return self.records[number]


def evaluate(split: Any, folder: Path) -> None:
    """Writes the files of an evaluation, with shifted ground-truth masks and random heatmaps.

    At the second threshold, the masks are shifted differently.
    """
    rng, index = np.random.default_rng(1), split.index
    n = len(index.text)
    numbers = np.zeros((2, 2, n), np.int32)  # intersections and unions by threshold
    counts: tuple[list[str], list[str]] = ([], [])
    heatmaps = np.zeros((n, 1, 52, 52), np.uint8)
    for row in range(n):
        record = split.record(index.record[row])
        target = record["targets"]["object"][index.sentence[row]]
        truth = masks.decode(record["objects"]["mask"][target], record["height"], record["width"])
        for k in (0, 1):
            mask = np.roll(truth, rng.integers(-30, 31, 2), (0, 1))
            numbers[k, :, row] = (mask & truth).sum(), (mask | truth).sum()
            counts[k].append(masks.encode(mask).decode())
        y, x = rng.random(2) * 52
        away = (np.arange(52)[:, None] - y) ** 2 + (np.arange(52) - x) ** 2
        heatmaps[row, 0] = 255 * np.exp(-away / 60) * rng.uniform(0.9, 1, (52, 52))
    curve = {"threshold": [0.25, 0.5], "oiou": [0.5, 0.4], "miou": [0.5, 0.4]}
    area = index.area.astype(np.int32)
    points, hit = np.zeros((n, 2), np.int32), rng.random(n) < 0.8

    def make(
        k: int, threshold: Threshold, other: results.SplitResults | None = None
    ) -> results.SplitResults:
        return results.SplitResults(
            intersection=numbers[k, 0],
            union=numbers[k, 1],
            area=area,
            counts=counts[k],
            point=points,
            hit=hit,
            heatmap=heatmaps,
            curve=curve,
            threshold=threshold,
            other=other,
        )

    scored = make(0, Threshold(0.25), make(1, Threshold(0.5, "val")))
    results.write(split, scored, folder)
    assert metrics.iou(*numbers[0]).mean() < 1


def open_page(page: Path) -> dict[str, float]:
    """Opens a page in headless Chromium; returns the seconds to load, draw and update it."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    names = "headless no-sandbox disable-gpu disable-dev-shm-usage no-first-run"
    for name in [*names.split(), f"user-data-dir={tempfile.mkdtemp()}"]:
        options.add_argument(f"--{name}")
    service = webdriver.ChromeService(executable_path="/usr/bin/chromedriver")
    browser = webdriver.Chrome(options=options, service=service)
    try:
        browser.get("data:,")
        start = time.perf_counter()
        browser.get(page.as_uri())
        loaded = time.perf_counter() - start
        while browser.execute_script("return document.body.dataset.drawn") != "yes":
            time.sleep(0.02)
        drawn = time.perf_counter() - start
        timed = "const t = performance.now(); {}; return (performance.now() - t) / 1000"
        return {
            "load": loaded,
            "first page drawn": drawn,
            "filter": browser.execute_script(timed.format("$('word').value='man'; select()")),
            "sort": browser.execute_script(timed.format("$('sort').value='worst'; select()")),
            "enlarge": browser.execute_script(
                timed.format("document.querySelector('#cards canvas').click()")
            ),
        }
    finally:
        browser.quit()


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = make_parser(__doc__, out=False)
    parser.add_argument(
        "--photos", type=Path, required=True, help="folder with instances.json and images/"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    parser.add_argument("--sentences", type=int, default=10000)
    parser.add_argument("--images", type=int, default=1500)
    args = parse_arguments(parser, arguments)
    split = Photos(args.photos, args.images, args.sentences)
    folder = args.out / "eval" / "val"
    evaluate(split, folder)
    config = refcoco.get_config()
    config.eval.splits = ("val",)
    run = {
        "step": 1,
        "config": plain_config(config),
        "data": {},
        "trained_on": {},
        "versions": {"lts_jax": "0", "jax": "0"},
        "devices": "none",
    }
    predictions = json.loads((folder / "predictions.json").read_text(encoding="utf-8"))
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    evaluated = Evaluated(folder, "val", run, predictions, split)  # type: ignore[arg-type]
    start = time.perf_counter()
    with mock.patch.object(Evaluated, "read", lambda *_: evaluated):
        page = make_report(args.out, "lts", 10**6)
    made = time.perf_counter() - start
    write_text(args.out / "report.html", page)
    measured = {
        "sentences": len(predictions),
        "images": args.images,
        "megabytes": len(page.encode()) / 1e6,
        "seconds to make": made,
        "seconds in the browser": open_page((args.out / "report.html").resolve()),
    }
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
