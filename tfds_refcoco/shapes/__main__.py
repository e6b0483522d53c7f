"""A worker of `tfds_refcoco.shapes.processes`: prints a line for every n-th scene."""

import itertools
import json
import sys
from pathlib import Path

from tfds_refcoco.shapes.entries import make_scene
from tfds_refcoco.shapes.processes import in_order

if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    mine = itertools.islice(in_order(task["scenes"]), task["first"], None, task["count"])
    for split, number in mine:
        print(make_scene(Path(task["image_dir"]), task["seed"], split, number), flush=True)
