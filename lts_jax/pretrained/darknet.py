"""Reads Darknet's binary weights: `yolov3.weights`, `darknet53.conv.74`, and truncated files.

The format (Darknet's `parser.c`) is: three int32 for the version; the number of images seen in
training, int32 up to version 0.1, else int64; then, for each convolution in the order of the cfg
file, BatchNorm's bias, scale, mean and variance, and the weights `[out, in, k, k]`, all
little-endian float32. A convolution without BatchNorm has only a bias and weights.
"""

import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lts_jax.errors import ConfigError
from lts_jax.pretrained.layout import (
    LIMIT,
    Conv,
    Network,
    assemble,
    darknet53,
    neck,
    untrained,
    yolo_tail,
)

_COCO_OUTPUTS = 255  # 3 anchors · (5 + 80 classes)
_ZEROS_AT_END = 16  # float32; trained weights are almost never exactly zero
_ZEROS_IN_ROW = 1024  # float32 in a 4 KiB disk block
_IMAGENET_CLASSES = 1000


class Array(NamedTuple):
    """The position of one array of a convolution in the file."""

    conv: Conv
    name: str  # "bias", "scale", "mean", "var" or "weights"
    start: int  # in float32 after the header
    size: int  # in float32

    def __str__(self) -> str:
        return f"{self.name} of {self.conv.path}"


def read_darknet(path: Path, network: Network) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads the backbone from a Darknet file.

    Each byte of the file must belong to a convolution of YOLOv3, or of Darknet53's classifier.

    Args:
      path: the file.
      network: the backbone to read.

    Returns:
      `params` and `batch_stats` of the backbone, and a description: `format`, `conventions`,
      `version`, `images_seen`, `convolutions`, `heads` (outputs of each detection head, None if it
      has no heads) and `classes` of the detector. A truncated file may be mistaken for one with
      fewer classes; the backbone is stored first and is complete in any case.

    Raises:
      ConfigError: the file is not a Darknet file, has a wrong length, or contains an invalid value.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(20)
    version, seen, start = _read_header(path, header)
    if (size - start) % 4:
        raise ConfigError(
            f"{path}: {size} bytes minus a header of {start} are not a multiple of 4 (float32): "
            "download the file again"
        )
    convs, heads = _recognize(path, (size - start) // 4, start, network)
    wanted = network.convs
    if len(convs) < len(wanted):
        raise ConfigError(
            f"{path}: contains the first {len(convs)} convolutions of YOLOv3 and ends before "
            f"{wanted[len(convs)].path}, at byte {size}. Use a file with the neck, or set "
            "--config.model.neck=False"
        )
    data = np.memmap(path, "<f4", mode="r", offset=start)
    _check_end(path, data, convs, start)
    arrays: dict[str, dict[str, NDArray[Any]]] = {conv.path: {} for conv in wanted}
    for array in _arrays(convs):
        values = data[array.start : array.start + array.size]
        _check_values(path, array, values, start)
        if array.conv.path in arrays:
            shape = array.conv.shape if array.name == "weights" else (array.size,)
            arrays[array.conv.path][array.name] = values.reshape(shape)
    described = {
        "format": "Darknet",
        "conventions": ["darknet"],
        "version": version,
        "images_seen": seen,
        "convolutions": len(convs),
        "heads": heads,
        "classes": heads and heads // 3 - 5,
    }
    return assemble(arrays), described


def write_darknet(path: Path, numbers: NDArray[np.float32], images_seen: int = 0) -> None:
    """Writes a file of version 0.2.0 from float32 `[N]` in the format's order."""
    with path.open("wb") as file:
        file.write(struct.pack("<iiiQ", 0, 2, 0, images_seen))
        file.write(np.ascontiguousarray(numbers, "<f4").tobytes())


def _read_header(path: Path, header: bytes) -> tuple[str, int, int]:
    """Returns the version, the images seen, and the header's length in bytes."""
    if len(header) < 16:
        raise ConfigError(f"{path}: ends at byte {len(header)}, inside the header: no weights")
    major, minor, revision = struct.unpack("<iii", header[:12])
    if major != 0 or minor not in (1, 2) or not 0 <= revision < 100:
        raise ConfigError(
            f"{path}: bytes 0 to 12 give version {major}.{minor}.{revision}, but Darknet's "
            "versions are 0.1.0 to 0.2.5. This is not a Darknet file; name a PyTorch file .pth, "
            ".pt or .safetensors"
        )
    wide = minor >= 2
    if wide and len(header) < 20:
        raise ConfigError(f"{path}: ends at byte {len(header)}, inside the header: no weights")
    (seen,) = struct.unpack_from("<Q" if wide else "<I", header, 12)
    return f"{major}.{minor}.{revision}", seen, 20 if wide else 16


def _recognize(
    path: Path, floats: int, start: int, network: Network
) -> tuple[list[Conv], int | None]:
    """Infers the convolutions and the heads' outputs from the number of float32 in the file."""
    body = darknet53(network.width, network.stages)
    with_neck = body + neck(network.width)
    plain = [with_neck[:n] for n in range(len(body), len(with_neck) + 1)]
    for convs in plain:
        if _floats(convs) == floats:
            return convs, None
    classifier = Conv("head_imagenet", _IMAGENET_CLASSES, body[-1].outputs, 1)
    if _floats([*body, classifier]) == floats:
        return [*body, classifier], None
    # The size is linear in the outputs of the heads: solve for them, for any number of classes.
    none, three = (_floats(with_neck + yolo_tail(network.width, n)) for n in (0, 3))
    anchors, rest = divmod(floats - none, three - none)
    if rest == 0 and anchors > 5:
        return with_neck + yolo_tail(network.width, 3 * anchors), 3 * anchors
    full = with_neck + yolo_tail(network.width, _COCO_OUTPUTS)
    for n in range(len(with_neck) + 1, len(full)):
        if _floats(full[:n]) == floats:
            return full[:n], _COCO_OUTPUTS
    raise ConfigError(f"{path}: {_misfit(floats, start, body, full)}")


def _misfit(floats: int, start: int, body: list[Conv], full: list[Conv]) -> str:
    """Describes where a file of a wrong length ends, and the expected lengths."""
    end = start + 4 * floats
    known = {len(body): "darknet53.conv.74", len(body) + 6: "with the neck", len(full): "YOLOv3"}
    right = ", ".join(
        f"{start + 4 * _floats(full[:n]):,} ({name})" for n, name in sorted(known.items())
    )
    last = list(_arrays(full))[-1]
    if floats > last.start + last.size:
        where = f"continues after byte {start + 4 * (last.start + last.size)}, the end of YOLOv3"
    else:
        array = next(a for a in _arrays(full) if floats < a.start + a.size)
        where = f"ends at byte {end}, inside or before the {array}"
        where += f" (bytes {start + 4 * array.start} to {start + 4 * (array.start + array.size)})"
    return (
        f"{where}. Expected for this network: {right} bytes, or any later end of a convolution. "
        "Download the file again, or set model.backbone_width and model.backbone_stages to those "
        "of the file"
    )


def _arrays(convs: list[Conv]) -> list[Array]:
    arrays, at = [], 0
    for conv in convs:
        for name, size in _sizes(conv).items():
            arrays.append(Array(conv, name, at, size))
            at += size
    return arrays


def _sizes(conv: Conv) -> dict[str, int]:
    if conv.path.startswith("head"):
        return {"bias": conv.outputs, "weights": conv.sizes["weights"]}
    return conv.sizes


def _floats(convs: list[Conv]) -> int:
    return sum(sum(_sizes(conv).values()) for conv in convs)


def _check_end(path: Path, data: NDArray[np.float32], convs: list[Conv], start: int) -> None:
    """Raises ConfigError if the file ends in zeros, as after an interrupted download."""
    zeros = 0
    while zeros < len(data):
        part = data[max(0, len(data) - zeros - 2**20) : len(data) - zeros]
        used = np.flatnonzero(part)
        zeros += len(part) - 1 - int(used[-1]) if len(used) else len(part)
        if len(used):
            break
    if zeros >= _ZEROS_AT_END:
        first = len(data) - zeros
        array = next(a for a in _arrays(convs) if first < a.start + a.size)
        raise ConfigError(
            f"{path}: bytes {start + 4 * first} to {start + 4 * len(data)}, from the {array} to "
            f"the end, {zeros / len(data):.0%} of the file, are zeros, which training does not "
            "produce: the download is incomplete; download it again"
        )


def _check_values(path: Path, array: Array, values: NDArray[np.float32], start: int) -> None:
    bad = ~(np.abs(values) <= LIMIT)
    if array.name == "var":
        bad |= values < 0
    if bad.any():
        first = int(np.argmax(bad))
        raise ConfigError(
            f"{path}: byte {start + 4 * (array.start + first)}, in the {array}, has the invalid "
            f"value {values[first]}: the file is damaged or not a YOLOv3; download it again"
        )
    at = f"{path}: bytes {start + 4 * array.start} to {start + 4 * (array.start + array.size)}"
    if what := untrained(array.name, values):
        raise ConfigError(f"{at}: the array of {array} {what}")
    edges = np.flatnonzero(np.diff(values == 0, prepend=False, append=False))
    for first, end in zip(edges[::2], edges[1::2], strict=True):
        if array.name == "weights" and end - first >= _ZEROS_IN_ROW:
            raise ConfigError(
                f"{path}: bytes {start + 4 * (array.start + first)} to "
                f"{start + 4 * (array.start + end)}, in the {array}, are zeros, which training "
                "does not produce: a part of the file is missing; download it again"
            )
