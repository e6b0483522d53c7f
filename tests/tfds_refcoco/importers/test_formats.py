"""Golden files of each format, made by hand from its documentation, and their masks."""

import base64
import io
import itertools
import pickle

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

import tfds_refcoco
from tests.tfds_refcoco.importers.conftest import SIZE
from tfds_refcoco.importers.label_studio import decode_brush

W, H = SIZE
SQUARE = [10, 5, 30, 5, 30, 25, 10, 25]
TRIANGLE = [40, 8, 55.5, 30.25, 35, 33]
RING = np.zeros((H, W), bool)  # a mask with a hole
RING[4:20, 30:50] = True
RING[8:14, 36:44] = False


def raster(*polygons):
    parts = coco_mask.frPyObjects([list(map(float, p)) for p in polygons], H, W)
    return coco_mask.decode(coco_mask.merge(parts)) > 0


def uncompressed(mask):
    """COCO's RLE as a list: runs of columns, the first outside."""
    flat = np.concatenate([[False], mask.T.ravel()])
    edges = np.flatnonzero(np.diff(flat.astype(int))) if flat.any() else []
    runs = np.diff(np.concatenate([[0], edges, [mask.size]]))
    return {"size": [H, W], "counts": runs.tolist()}


def check(workshop, expected):
    found = workshop.result()
    assert set(found) == set(expected)
    for text, (split, category, rivals, *wanted) in expected.items():
        assert found[text][:3] == (split, category, rivals), text
        assert len(found[text][3]) == len(wanted)
        for mask, truth in zip(found[text][3], wanted, strict=True):
            np.testing.assert_array_equal(mask, truth, err_msg=text)


@pytest.fixture
def coco(workshop):
    content = {
        "images": [
            {"id": 7, "file_name": "sub\\0.jpg", "width": W, "height": H},
            {"id": 8, "file_name": "1.jpg", "width": W, "height": H},
        ],
        "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": 11, "image_id": 7, "category_id": 1, "segmentation": [SQUARE]},
            {
                "id": 12,
                "image_id": 7,
                "category_id": 1,
                "segmentation": [TRIANGLE, [2, 2, 8, 2, 8, 9]],
            },
            {"id": 13, "image_id": 8, "category_id": 2, "segmentation": uncompressed(RING)},
            {"id": 14, "image_id": 7, "category_id": 1, "segmentation": [SQUARE], "iscrowd": 1},
            {"id": 15, "image_id": 7, "category_id": 1, "segmentation": [[1, 30, 9, 30, 9, 38]]},
        ],
    }
    return content, lambda: workshop.write("instances.json", content)


COCO = {
    "cup on the left": ("train", "cup", 3, raster(SQUARE)),
    "cup on the right": ("train", "cup", 3, raster(TRIANGLE, [2, 2, 8, 2, 8, 9])),
    "dog, the one with a hole": ("val", "dog", 1, RING),
}


def test_coco_and_csv(workshop, coco, capsys):
    file = coco[1]()
    rows = (
        "\ufeffann_id,expression,split\n"
        "11,cup on the left,training\n12,cup on the right,training\n"
        '13,"dog, the one with a hole",valid\n14,the crowd,training\n'
    )
    assert workshop.run("coco", file, "--expressions", workshop.write("e.csv", rows)) == 0
    check(workshop, COCO)
    printed = capsys.readouterr().out
    assert "1 sentences about a crowd were left out" in printed
    assert "1 objects without a sentence were left out and counted as rivals" in printed
    content = workshop.content()
    assert content["image_dir"] == str(workshop.root / "images")
    assert [image["file"] for image in content["images"]] == ["0.jpg", "1.jpg"]
    assert [image["id"] for image in content["images"]] == [7, 8]
    assert [item["id"] for item in content["images"][0]["objects"]] == [11, 12]


def test_coco_and_json(workshop, coco):
    rows = [
        {"ann_id": 11, "text": ["cup on the left", "left cup"], "split": "test"},
        {"ann_ids": [11, 12], "text": "both cups", "split": "test"},
        {"image_id": 8, "text": "the cat", "split": "testA"},
    ]
    file = workshop.write("e.json", rows)
    assert workshop.run("coco", coco[1](), "--expressions", file) == 0
    both = raster(SQUARE), COCO["cup on the right"][3]
    check(
        workshop,
        {
            "cup on the left": ("test", "cup", 3, both[0]),
            "left cup": ("test", "cup", 3, both[0]),
            "both cups": ("test", "cup", 3, *both),
            "the cat": ("testA", None, None),
        },
    )


def test_coco_and_json_by_id(workshop, coco):
    file = workshop.write("e.json", {"11": "cup on the left", "13": ["a dog", "dog"]})
    assert workshop.run("coco", coco[1](), "--expressions", file, "--val", "0.5") == 0
    found = workshop.result()
    assert set(found) == {"cup on the left", "a dog", "dog"}
    assert {split for split, *_ in found.values()} == {"train", "val"}


def test_refer(workshop, coco, capsys):
    content, write = coco
    content["images"][0]["file_name"] = "0.jpg"
    # RRSIS-D has lists of compressed RLEs.
    rle = coco_mask.encode(np.asfortranarray(RING, np.uint8))
    rle["counts"] = rle["counts"].decode()
    content["annotations"][2]["segmentation"] = [rle]
    write()
    refs = [
        {
            "ref_id": 5 + i,
            "ann_id": ann_id,
            "image_id": image_id,
            "split": split,
            "category_id": 1,
            "sentences": [{"sent_id": 20 + i, "sent": text, "raw": text.upper(), "tokens": []}],
        }
        for i, (ann_id, image_id, split, text) in enumerate(
            [
                (11, 7, "train", "cup on the left"),
                (12, 7, "train", "cup on the right"),
                (13, 8, "validation", "dog, the one with a hole"),
                (13, 8, "testC", "dog"),
            ]
        )
    ]
    (workshop.root / "refs(unc).p").write_bytes(pickle.dumps(refs, 2))
    assert workshop.run("refer", workshop.root) == 1
    message = capsys.readouterr().err
    assert "the split 'testC' is none of train" in message and "--split testC=val" in message
    assert workshop.run("refer", workshop.root, "--split", "testC=-") == 0
    check(workshop, COCO)
    assert "1 images of the split testC were left out" in capsys.readouterr().out
    sentences = [s for image in workshop.content()["images"] for s in image["sentences"]]
    assert [s["id"] for s in sentences] == [20, 21, 22]
    # An image of two splits: its id and those of its objects would appear twice.
    assert workshop.run("refer", workshop.root, "--split", "testC=test") == 0
    assert "ids of images were not kept" in capsys.readouterr().out
    assert set(workshop.result()) == {*COCO, "dog"}


def test_labelme(workshop, capsys):
    patch = np.zeros((10, 20), np.uint8)
    patch[2:9, 3:15] = 1
    patch[4:6, 6:9] = 0
    file = io.BytesIO()
    Image.fromarray(patch).save(file, "PNG")
    shapes = [
        {"label": "cup", "points": np.reshape(SQUARE, (-1, 2)).tolist(), "shape_type": "polygon"},
        {"label": "cup", "points": [[58, 38], [50, 30]], "shape_type": "rectangle"},
        {"label": "plate", "points": [[20.5, 20], [20.5, 28]], "shape_type": "circle"},
        {
            "label": "dog",
            "points": [[30, 5], [49, 14]],
            "shape_type": "mask",
            "mask": base64.b64encode(file.getvalue()).decode(),
        },
        {"label": "rope", "points": [[1, 1], [9, 9]], "shape_type": "linestrip"},
        {"label": "bench", "points": [[1, 1], [9, 1], [9, 5]], "group_id": 0},
        {"label": "bench", "points": [[1, 20], [9, 20], [9, 25]], "group_id": 0},
    ]
    texts = [
        "square cup\nleft cup\n",
        "cup in the corner",
        "round plate",
        "the dog",
        "rope",
        "bench",
    ]
    for shape, text in zip(shapes, texts, strict=False):
        shape |= {"description": text, "flags": {"truncated": shape["label"] == "dog"}}
    content = {
        "version": "5.5.0",
        "flags": {},
        "shapes": [{"group_id": None} | shape for shape in shapes],
        "imagePath": "..\\images\\0.jpg",
        "imageData": None,
        "imageHeight": H,
        "imageWidth": W,
    }
    workshop.write("labels/0.json", content)
    assert workshop.run("labelme", workshop.root / "labels", "--val", "0") == 0
    dog = np.zeros((H, W), bool)
    dog[5:15, 30:50] = patch > 0
    plate = Image.new("1", (W, H))
    ImageDraw.Draw(plate).ellipse((12.5, 12, 28.5, 28), outline=1, fill=1)
    bench = raster([1, 1, 9, 1, 9, 5], [1, 20, 9, 20, 9, 25])
    check(
        workshop,
        {
            "square cup": ("train", "cup", 2, raster(SQUARE)),
            "left cup": ("train", "cup", 2, raster(SQUARE)),
            "cup in the corner": ("train", "cup", 2, raster([50, 30, 58, 30, 58, 38, 50, 38])),
            "round plate": ("train", "plate", 1, np.asarray(plate)),
            "the dog": ("train", "dog", 1, dog),
            "bench": ("train", "bench", 1, bench),
        },
    )
    printed = capsys.readouterr().out
    assert "1 shapes of the type linestrip were left out: they have no area" in printed
    assert "1 flags of shapes were not kept" in printed


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
    runs = [0, *np.diff([0, *edges, box.size])]  # starts inside: the run outside is empty
    return CVAT.format(**{"W": W, "H": H, "rle": ", ".join(map(str, runs))} | changes)


def test_cvat(workshop, capsys):
    workshop.write("annotations.xml", cvat())
    assert workshop.run("cvat", workshop.root) == 0
    ellipse = np.zeros((H, W), np.uint8)
    for row in range(H):
        for column in range(W):
            x, y = column + 0.5 - 30.5, row + 0.5 - 20.5
            ellipse[row, column] = (x / 12) ** 2 + (y / 6) ** 2 <= 1
    check(
        workshop,
        {
            "cup on the left": ("train", "cup", 2, raster(SQUARE)),
            "the left cup": ("train", "cup", 2, raster(SQUARE)),
            # Turned by 90 degrees about its centre 46, 15.
            "cup on its side": ("train", "cup", 2, raster([41, 9, 51, 9, 51, 21, 41, 21])),
            "dog": ("train", "dog", 1, RING),
            "plate": ("val", "plate", 1, ellipse > 0),
            "both parts": ("val", "leg", 1, raster([1, 1, 9, 1, 9, 5], [1, 20, 9, 20, 9, 25])),
        },
    )
    printed = capsys.readouterr().out
    assert "1 shapes of the type points were left out" in printed
    assert "1 attributes of shapes were not kept" in printed


def test_coco_export_of_cvat(workshop, coco):
    content, _ = coco
    for row, text in zip(content["annotations"], (*COCO, "crowd"), strict=False):
        row["attributes"] = {"occluded": False, "Expression": text}
    for split, image_id in (("train", 7), ("val", 8)):
        part = content | {
            "images": [row for row in content["images"] if row["id"] == image_id],
            "annotations": [row for row in content["annotations"] if row["image_id"] == image_id],
        }
        workshop.write(f"annotations/instances_{split}.json", part)
    assert workshop.run("cvat", workshop.root) == 0
    check(workshop, COCO)


def brush(mask):
    """Label Studio's RLE of a mask, from the description of the format: 0 and 255 in RGBA."""
    values = np.zeros((H, W, 4), int)
    values[mask] = 255
    flat = values.ravel()
    edges = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    sizes = (3, 4, 8, 16)
    bits = f"{flat.size:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    for start, end in itertools.pairwise(edges):
        length = end - start - 1
        if length < 2:  # not worth a run: value by value
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


def test_label_studio(workshop, capsys):
    file = workshop.write("export.json", label_studio())
    assert workshop.run("label-studio", file, "--val", "0") == 0
    rows, columns = np.mgrid[:H, :W] + 0.5
    plate = ((columns - 30) / 12) ** 2 + ((rows - 20) / 6) ** 2 <= 1
    check(
        workshop,
        {
            "cup on the left": ("train", "cup", 2, raster(SQUARE)),
            "left cup": ("train", "cup", 2, raster(SQUARE)),
            # Turned clockwise by 90 degrees about its top left corner 40, 10.
            "cup on its side": ("train", "cup", 2, raster([40, 10, 30, 10, 30, 22, 40, 22])),
            "dog": ("train", "dog", 1, RING),
            "plate": ("train", "plate", 1, plate),
        },
    )
    printed = capsys.readouterr().out
    for note in (
        "1 cancelled annotations were left out",
        "1 further annotations of a task were left out",
        "1 results of the type relation were not kept",
        "1 results of the type keypointlabels were not kept",
    ):
        assert note in printed


@pytest.mark.parametrize("seed", range(3))
def test_brush_masks(seed):
    noise = np.random.default_rng(seed).random((H, W)) > 0.5
    mask = cv2.blur(noise.astype(np.float32), (5, 5)) > 0.5
    np.testing.assert_array_equal(decode_brush(brush(mask), SIZE, "here"), mask)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_upright_copies(workshop, orientation):
    """Annotated as tools show it, upright: the copy has these pixels, and no orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = SIZE[::-1] if orientation >= 5 else SIZE
    path = workshop.photo("images/0.jpg", 1, exif=exif)
    rows = [[2, 3, 20, 3, 20, 30]]
    content = {
        "images": [{"id": 1, "file_name": "0.jpg", "width": upright[0], "height": upright[1]}],
        "categories": [{"id": 1, "name": "cup"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": rows, "caption": "cup"}
        ],
    }
    assert workshop.run("coco", workshop.write("instances.json", content), "--val", "0") == 0
    assert "image_dir" not in workshop.content()
    (name,) = (image["file"] for image in workshop.content()["images"])
    with Image.open(workshop.out / name) as copy:
        assert copy.size == upright and not copy.getexif()
        shown = cv2.imread(str(path))  # as viewers show it
        np.testing.assert_array_equal(np.asarray(copy), shown[..., ::-1])
    (found,) = workshop.result()["cup"][3]
    assert found.shape == upright[::-1]


def test_pictures_that_records_cannot_hold(workshop, coco, capsys):
    content, write = coco
    for row, name in zip(content["images"], ("a.bmp", "b.png"), strict=True):
        row["file_name"] = name
    workshop.photo("images/a.bmp", 1)
    with Image.open(workshop.photo("images/b.png", 2)) as picture:
        picture.convert("RGBA").save(workshop.root / "images/b.png")
    file = workshop.write("e.json", {"11": "cup", "13": "dog"})
    assert workshop.run("coco", write(), "--expressions", file) == 0
    assert "2 images were copied to" in capsys.readouterr().out
    assert set(workshop.result()) == {"cup", "dog"}


def test_what_is_imported_builds(workshop):
    workshop.write("annotations.xml", cvat())
    assert workshop.run("cvat", workshop.root) == 0
    tfds_refcoco.build("custom", workshop.root / "out", workshop.out, progress=False)
    built = tfds_refcoco.open_dataset(workshop.root / "out", "custom")
    assert built.splits == ("train", "val")
    record = built.split("val").record(0)
    assert record["image"] == (workshop.root / "images/1.jpg").read_bytes()
    assert record["objects"]["category"] == ["plate", "leg"]
