"""Helpers of `benchmarks/accelerator.sh`: device rates, data, batch size and summary.

python -m benchmarks.accelerator rates --out OUT/rates.json
python -m benchmarks.accelerator data --images 1500 --sentences 10834 --out OUT/data
python -m benchmarks.accelerator batch --dtype bfloat16
python -m benchmarks.accelerator summary --out OUT
"""

import argparse
import json
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np

import tfds_refcoco
from benchmarks import machine, synthetic_raw, timing
from benchmarks.arguments import make_parser, parse_arguments
from benchmarks.compiled.devices import DEVICES
from benchmarks.compiled.report import model
from benchmarks.report import WORDS
from lts_jax.io.console import format_table
from lts_jax.io.files import write_json

COMPILED = Path(__file__).parent.parent / "docs" / "results" / "compiled"
SHARE = 0.9  # share of the memory
KINDS = {
    "H100": "h100",
    "H200": "h200",
    "A100": "a100",
    "RTX 4090": "rtx4090",
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5": "v5p",
    "TPU v6 lite": "v6e",
}
"""Keys of `DEVICES` by a substring of JAX's device name; the first match is used."""
PHOTOS = 20


def attached() -> str | None:
    """Returns the attached device's key in `DEVICES`, or None if it is unknown."""
    kind = jax.devices()[0].device_kind
    return next((name for title, name in KINDS.items() if title in kind), None)


def rates() -> dict[str, Any]:
    """Measures the rates of a large matrix product, by dtype, and of a copy."""
    device = jax.devices()[0]
    on_cpu = device.platform == "cpu"  # bfloat16 products take minutes on CPUs
    numbers, dtypes = (2**24, ["float32"]) if on_cpu else (2**30, ["bfloat16", "float32"])
    x = jnp.zeros(numbers, jnp.bfloat16)
    copy = jax.jit(lambda x: x + 1)
    _, seconds = timing.alternate({"": lambda: copy(x).block_until_ready()}, 9)
    return {
        "device": device.device_kind,
        "matrix_rate": {dtype: timing.matrix_rate(dtype) for dtype in dtypes},
        "copy_bytes_per_second": 2 * x.nbytes / statistics.median(seconds[""]),
        **machine.describe(("jax", "jaxlib")),
    }


def make_data(images: int, sentences: int, out: Path) -> None:
    """Builds a dataset of noise images with boxes; train and val have equal numbers of images.

    Args:
      images: number of images in val.
      sentences: number of sentences in val.
      out: folder of the built dataset; one image is copied next to it as photo.jpg.
    """
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        photos, texts = Path(folder) / "photos", Path(folder) / "texts"
        (photos / "images").mkdir(parents=True)
        texts.mkdir()
        content: dict[str, Any] = {
            "images": [], "annotations": [], "categories": [{"id": 1, "name": "box"}],
        }  # fmt: skip
        for i in range(PHOTOS):
            name = f"{i}.jpg"
            # Smooth noise has a photo's file size and decoding time.
            coarse = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
            noise = cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(photos / "images" / name), noise)
            content["images"].append({"id": i, "file_name": name, "width": 640, "height": 480})
            for k in range(4):
                x, y, w, h = 150 * k + 10, 40 + 60 * k, 120, 150
                polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
                content["annotations"].append(
                    {
                        "id": len(content["annotations"]) + 1,
                        "image_id": i,
                        "category_id": 1,
                        "iscrowd": 0,
                        "bbox": [x, y, w, h],
                        "area": w * h,
                        "segmentation": [polygon],
                    }
                )
        (photos / "instances.json").write_text(json.dumps(content), encoding="utf-8")
        refs = [
            {"sentences": [{"sent": " ".join(rng.choice(WORDS, int(rng.integers(1, 9))))}]}
            for _ in range(500)
        ]
        for file in synthetic_raw.TEXT_FILES:
            (texts / file).write_text(json.dumps(refs), encoding="utf-8")
        raw = Path(folder) / "raw"
        synthetic_raw.write_raw(
            photos,
            texts,
            raw,
            images=2 * images + 2,
            sentences=round((2 * images + 2) * sentences / images),
            split_images={"train": images, "val": images, "testA": 1, "testB": 1},
        )
        tfds_refcoco.build("refcoco_unc", out, raw, progress=False)
        shutil.copyfile(photos / "images" / "0.jpg", out.with_name("photo.jpg"))


def largest_batch(dtype: str) -> int:
    """Returns a batch that fits the attached device, from the results of `benchmarks.compile_for`.

    It is the result of `--fit`, or else estimated from the memory per example in a batch that was
    compiled for a device of the same vendor.
    """
    name = attached()
    if name is None:
        return 2
    fitted = COMPILED / "fit" / f"{name}_{dtype}.json"
    if fitted.exists():
        return int(_read(fitted)["fit"]["batch"])
    family = type(DEVICES[name])
    for path in sorted(COMPILED.glob(f"train/*_{dtype}.json")):
        of = _read(path)
        if isinstance(DEVICES[of["device"]], family) and of["devices"] == 1:
            memory = of["programs"]["train"]["memory"]
            each = memory["temporaries"] / of["batch"]
            batch = int((SHARE * DEVICES[name].memory - memory["arguments"]) / each)
            return max(8, batch // 8 * 8)
    return 16


def predicted(dtype: str, batch: int, shares: int) -> float | None:
    """Returns the modeled seconds per step, from a program compiled for a similar device."""
    name = attached()
    if name is None or shares != 1:
        return None
    for path in sorted(COMPILED.glob(f"train/*_{dtype}.json")):
        of = _read(path)
        if type(DEVICES[of["device"]]) is type(DEVICES[name]) and of["devices"] == 1:
            train = of["programs"]["train"]
            traffic = train["traffic"]["bytes_per_example"] * batch
            operations = train["operations"] / of["batch"] * batch
            return model(DEVICES[name], traffic, operations, 0, dtype)["seconds"]
    return None


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def summary(folder: Path) -> list[list[str]]:
    """Returns a row per result: the measured and the modeled value."""
    rows = []
    for path in sorted(folder.glob("*.json")):
        of = _read(path)
        if path.stem == "rates":
            for dtype, rate in of["matrix_rate"].items():
                rows.append([f"matrix product, {dtype}", f"{rate / 1e12:.1f} TFLOP/s", ""])
            rows.append(["copy", f"{of['copy_bytes_per_second'] / 1e9:.0f} GB/s", ""])
        for point in of.get("points", []):
            for way, row in point.get("rows", {}).items():
                seconds = row["median_seconds"] / int(of["arguments"]["steps"])
                dtype = next(iter(of["matrix_rate"]))
                shares = 4 if "shared" in path.stem else 1
                expected = predicted(dtype, point["batch"], shares) if way == "ours" else None
                modeled = f"{1000 * expected:.1f} ms" if expected else ""
                name = f"{path.stem}, batch {point['batch']}, {way}"
                rate = point["batch"] / seconds
                rows.append([name, f"{1000 * seconds:.1f} ms, {rate:.0f} sentences/s", modeled])
        if "timing" in of:
            for way, row in of["timing"].items():
                rate = row["sentences_per_second"]
                rows.append([f"{path.stem}, {way}", f"{rate:.0f} sentences/s", ""])
        for device, share in of.get("idle_share", {}).items():
            rows.append([f"idle, {device}", f"{share:.2%}", ""])
        for name, seconds in of.get("process", {}).get("median_seconds", {}).items():
            rows.append([f"predict, {name}", f"{1000 * seconds:.1f} ms", ""])
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = make_parser(__doc__, out=False)
    parser.add_argument("part", choices=["rates", "data", "batch", "summary"])
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--images", type=int, default=1500, help="of val")
    parser.add_argument("--sentences", type=int, default=10834, help="of val")
    parser.add_argument("--out", type=Path, help="file for rates, folder for data and summary")
    args: argparse.Namespace = parse_arguments(parser, arguments)
    if args.part == "batch":
        print(largest_batch(args.dtype))
        return
    if args.out is None:
        parser.error(f"{args.part} requires --out")
    if args.part == "rates":
        write_json(args.out, rates())
    elif args.part == "data":
        make_data(args.images, args.sentences, args.out)
    else:
        header = ("", "measured", "model, not measured")
        print(format_table(header, summary(args.out)))


if __name__ == "__main__":
    main()
