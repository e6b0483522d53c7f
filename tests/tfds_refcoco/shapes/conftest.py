import dataclasses
import json
import pickle
from pathlib import Path

import pytest

from tfds_refcoco.shapes import generate

SCENES = {"train": 150, "val": 40, "testA": 40, "testB": 40}


@dataclasses.dataclass
class Raw:
    directory: Path
    instances: dict
    refs: list


@pytest.fixture(scope="session")
def raw(tmp_path_factory) -> Raw:
    directory = tmp_path_factory.mktemp("raw")
    generate(directory, seed=3, progress=False, scenes=SCENES)
    with (directory / "shapes" / "refs(unc).p").open("rb") as file:
        refs = pickle.load(file)
    instances = json.loads((directory / "shapes" / "instances.json").read_text("utf-8"))
    return Raw(directory, instances, refs)
