"""From a tool's files to a trained and evaluated network."""

import json

import numpy as np
import pytest

import tfds_refcoco
from lts_jax.training.loop import train_and_evaluate
from tests.tfds_refcoco.importers.conftest import SIZE, Workshop


@pytest.mark.slow
def test_what_is_imported_trains_and_evaluates(tmp_path, tiny_config_factory):
    workshop = Workshop(tmp_path)
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cup"}]}
    for i in range(14):
        workshop.photo(f"images/{i}.jpg", i)
        row = {"id": i, "file_name": f"{i}.jpg", "width": SIZE[0], "height": SIZE[1]}
        content["images"].append(row)
        for k, side in enumerate(("left", "right")):
            x = 5 + 30 * k
            polygon = [x, 8, x + 20, 8, x + 20, 30, x, 30]
            annotation = {"id": 2 * i + k, "image_id": i, "category_id": 1, "iscrowd": 0}
            texts = {"caption": f"{side} cup\ncup on the {side}"}
            content["annotations"].append(annotation | {"segmentation": [polygon]} | texts)
    assert workshop.run("coco", workshop.write("instances.json", content), "--val", "0.25") == 0
    tfds_refcoco.build("custom", tmp_path / "data", workshop.out, progress=False)
    config = tiny_config_factory()
    config.data.update(dataset="custom", dir=str(tmp_path / "data"))
    config.train.update(batch_size=8, epochs=2.0, drop_epochs=(1.5,))
    config.eval.update(splits=("val",), best_split="val", every_epochs=1.0)
    train_and_evaluate(config, tmp_path / "run")
    run = json.loads((tmp_path / "run/eval/val/metrics.json").read_text())
    steps = [json.loads(line)["step"] for line in (tmp_path / "run/metrics.jsonl").open()]
    assert max(steps) >= 10
    assert 0 <= run["oiou"] <= 1 and run["sentences"] == 16
    assert np.isfinite(run["miou"])
