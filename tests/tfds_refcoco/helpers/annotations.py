"""Golden files of annotation tools, written by hand, and the expected masks."""

import itertools

import numpy as np
from pycocotools import mask as coco_mask

from tests.tfds_refcoco.importers.conftest import SIZE

W, H = SIZE
SQUARE = [10, 5, 30, 5, 30, 25, 10, 25]
RING = np.zeros((H, W), bool)  # a mask with a hole
RING[4:20, 30:50] = True
RING[8:14, 36:44] = False


def raster(*polygons):
    parts = coco_mask.frPyObjects([list(map(float, p)) for p in polygons], H, W)
    return coco_mask.decode(coco_mask.merge(parts)) > 0


def uncompressed(mask):
    """COCO's uncompressed RLE: column-major runs, starting with background."""
    flat = np.concatenate([[False], mask.T.ravel()])
    edges = np.flatnonzero(np.diff(flat.astype(int))) if flat.any() else []
    runs = np.diff(np.concatenate([[0], edges, [mask.size]]))
    return {"size": [H, W], "counts": runs.tolist()}


def check(workshop, expected):
    result = workshop.result()
    assert set(result) == set(expected)
    for text, (split, category, rivals, *wanted) in expected.items():
        assert result[text][:3] == (split, category, rivals), text
        assert len(result[text][3]) == len(wanted)
        for mask, truth in zip(result[text][3], wanted, strict=True):
            np.testing.assert_array_equal(mask, truth, err_msg=text)


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><name>cups</name><mode>annotation</mode></task></meta>
  <image id="0" name="sub/0.jpg" subset="Train" width="{W}" height="{H}">
    <polygon label="cup" source="manual" occluded="0" points="10.00,5.00;30.00,5.00;30,25;10,25"
     z_order="0">
      <attribute name="Expression">cup on the left
the left cup</attribute>
      <attribute name="quality">good</attribute>
    </polygon>
    <box label="cup" occluded="0" xtl="40" ytl="10" xbr="52" ybr="20" rotation="90.0">
      <attribute name="Expression">cup on its side</attribute>
    </box>
    <mask label="dog" rle="{rle}" left="30" top="4" width="20" height="16">
      <attribute name="Expression">dog</attribute>
    </mask>
    <points label="nose" points="3,3"/>
  </image>
  <image id="1" name="1.jpg" subset="val" width="{W}" height="{H}">
    <ellipse label="plate" cx="30.5" cy="20.5" rx="12" ry="6" rotation="0">
      <attribute name="Expression">plate</attribute>
    </ellipse>
    <polygon label="leg" points="1,1;9,1;9,5" group_id="3">
      <attribute name="Expression">both parts</attribute>
    </polygon>
    <polygon label="leg" points="1,20;9,20;9,25" group_id="3"/>
  </image>
</annotations>
"""


def cvat(**changes):
    box = RING[4:20, 30:50].ravel()
    edges = np.flatnonzero(np.diff(box.astype(int))) + 1
    runs = [
        0,
        *np.diff([0, *edges, box.size]),
    ]  # starts with foreground: the background run is empty
    return CVAT.format(**{"W": W, "H": H, "rle": ", ".join(map(str, runs))} | changes)


def brush(mask):
    """Label Studio's RLE of a mask, from the format's description: 0 and 255 in RGBA."""
    values = np.zeros((H, W, 4), int)
    values[mask] = 255
    flat = values.ravel()
    edges = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    sizes = (3, 4, 8, 16)
    bits = f"{flat.size:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    for start, end in itertools.pairwise(edges):
        length = end - start - 1
        if length < 2:  # too short for a run: single values
            bits += f"0{0:02b}{length:03b}" + "".join(f"{v:08b}" for v in flat[start:end])
        else:
            code = next(i for i, size in enumerate(sizes) if length < 1 << size)
            bits += f"1{code:02b}{length:0{sizes[code]}b}{flat[start]:08b}"
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def region(number, kind, value, **more):
    size = {"original_width": W, "original_height": H, "image_rotation": 0}
    names = {"from_name": "label", "to_name": "image"}
    return (
        {"id": f"r{number}", "type": kind, "value": value, "origin": "manual"} | size | names | more
    )


def label_studio():
    percent = [[x / W * 100, y / H * 100] for x, y in np.reshape(SQUARE, (-1, 2)).tolist()]
    turned = {"x": 40 / W * 100, "y": 10 / H * 100, "width": 12 / W * 100, "height": 10 / H * 100}
    results = [
        region(1, "polygonlabels", {"points": percent, "polygonlabels": ["cup"]}),
        region(1, "textarea", {"points": percent, "text": ["cup on the left", "left cup"]}),
        region(2, "rectanglelabels", turned | {"rotation": 90, "rectanglelabels": ["cup"]}),
        region(2, "textarea", turned | {"rotation": 90, "text": ["cup on its side"]}),
        region(3, "brushlabels", {"format": "rle", "rle": brush(RING), "brushlabels": ["dog"]}),
        region(3, "textarea", {"text": ["dog"]}),
        region(4, "keypointlabels", {"x": 1, "y": 1, "keypointlabels": ["nose"]}),
        {"type": "relation", "from_id": "r1", "to_id": "r2", "direction": "right"},
    ]
    ellipse = {"x": 50, "y": 50, "radiusX": 20, "radiusY": 15, "rotation": 0}
    second = [
        region(5, "ellipse", ellipse),
        region(5, "labels", ellipse | {"labels": ["plate"]}),
        region(5, "textarea", ellipse | {"text": ["plate"]}),
    ]
    return [
        {
            "id": 1,
            "data": {"image": "/data/upload/3/1a2b3c4d-0.jpg"},
            "annotations": [
                {"was_cancelled": True, "result": []},
                {"was_cancelled": False, "result": results},
                {"was_cancelled": False, "result": []},
            ],
        },
        {
            "id": 2,
            "data": {"text": "a", "picture": "/data/local-files/?d=photos%2F1.jpg"},
            "annotations": [{"result": second}],
        },
        {"id": 3, "data": {"image": "2.jpg"}, "annotations": []},
    ]
