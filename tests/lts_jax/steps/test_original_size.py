import jax.numpy as jnp
import numpy as np
import pytest

from lts_jax.data.image_ops import fit_mask, place
from lts_jax.steps import original_size

SIZES = [(1, 40), (37, 1), (640, 427), (64, 64), (7, 5)]
SIZES += [
    pytest.param(size, marks=pytest.mark.slow) for size in [(40, 1), (1, 37), (427, 640), (33, 20)]
]
SIDE = 64


def slow_map(grid, placement, stride):
    """Bilinear interpolation by definition, pixel by pixel."""
    h, w, top, left, height, width = placement
    g = len(grid)
    out = np.zeros((h, w))
    for r in range(h):
        for c in range(w):
            y = ((r + 0.5) * height / h + top) / stride - 0.5
            x = ((c + 0.5) * width / w + left) / stride - 0.5
            y, x = min(max(y, 0), g - 1), min(max(x, 0), g - 1)
            y0, x0 = min(int(y), g - 2), min(int(x), g - 2)
            fy, fx = y - y0, x - x0
            top_row = grid[y0, x0] * (1 - fx) + grid[y0, x0 + 1] * fx
            bottom_row = grid[y0 + 1, x0] * (1 - fx) + grid[y0 + 1, x0 + 1] * fx
            out[r, c] = top_row * (1 - fy) + bottom_row * fy
    return out


@pytest.mark.parametrize("stride", [4, 8])
@pytest.mark.parametrize("resize", ["letterbox", "squash"])
@pytest.mark.parametrize("size", SIZES)
def test_equals_a_slow_reference(size, resize, stride):
    rng = np.random.default_rng(0)
    grid = rng.random((SIDE // stride, SIDE // stride)).astype(np.float32)
    placement = place(*size, SIDE, resize)
    canvas = (size[0] + 3, size[1] + 5)
    ours = original_size.to_original_size(
        jnp.asarray(grid)[None], jnp.array([placement], jnp.int32), canvas, stride
    )[0]
    assert ours.shape == canvas
    slow = slow_map(grid, placement, stride)
    np.testing.assert_allclose(ours[: size[0], : size[1]], slow, atol=1e-5)
    outside = np.array(ours)
    outside[: size[0], : size[1]] = 0
    assert not outside.any()


def test_squashed_equals_torch_interpolate():
    torch = pytest.importorskip("torch", reason="torch is the oracle of the interpolation")
    grid = np.random.default_rng(1).random((1, 16, 16)).astype(np.float32)
    placement = place(100, 90, 64, "squash")
    ours = original_size.to_original_size(grid, jnp.array([placement], jnp.int32), (100, 90), 4)
    theirs = torch.nn.functional.interpolate(
        torch.tensor(grid)[None], (100, 90), mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(ours[0], theirs[0, 0].numpy(), atol=1e-5)


@pytest.mark.parametrize("size", [(640, 427), (427, 640), (64, 64), (30, 90)])
def test_targets_come_back_where_they_were(size):
    """A large box, sampled to the grid and mapped back, overlaps itself."""
    truth = np.zeros(size, np.uint8)
    truth[size[0] // 4 : size[0] // 2, size[1] // 3 : 2 * size[1] // 3] = 1
    placement = place(*size, 416, "letterbox")
    grid = fit_mask(truth, placement, 416, 4).astype(np.float32)
    back = original_size.to_original_size(grid[None], jnp.array([placement], jnp.int32), size, 4)[0]
    back = np.asarray(back) > 0.5
    assert (back & (truth > 0)).sum() / (back | (truth > 0)).sum() > 0.93


def slow_pixel(cell, stride, placement):
    """Returns the source pixel at a cell's center by integer arithmetic, or None in the border.

    In units of half an input pixel, pixel i of an axis covers fitted·2i … fitted·2(i + 1) over
    source. The pixel is found by linear search.
    """
    h, w, top, left, height, width = placement
    pixel = []
    for i, source, offset, fitted in zip(cell, (h, w), (top, left), (height, width), strict=True):
        centre = (2 * i + 1) * stride - 2 * offset
        covering = [
            k for k in range(source) if 2 * k * fitted <= centre * source < 2 * (k + 1) * fitted
        ]
        if not covering:
            return None
        pixel.append(covering[0])
    return tuple(pixel)


@pytest.mark.parametrize("stride", [4, 8])
@pytest.mark.parametrize("resize", ["letterbox", "squash"])
@pytest.mark.parametrize("size", SIZES)
def test_targets_are_the_pixels_under_the_cells(size, resize, stride):
    mask = np.random.default_rng(0).integers(0, 2, size, dtype=np.uint8)
    placement = place(*size, SIDE, resize)
    ours = fit_mask(mask, placement, SIDE, stride)
    g = SIDE // stride
    assert ours.shape == (g, g)
    for cell in np.ndindex(g, g):
        pixel = slow_pixel(cell, stride, placement)
        assert ours[cell] == (0 if pixel is None else mask[pixel])


@pytest.mark.parametrize("stride", [4, 8])
@pytest.mark.parametrize("resize", ["letterbox", "squash"])
@pytest.mark.parametrize("size", SIZES)
def test_peak_lands_on_the_pixel_under_the_cell(size, resize, stride):
    placement = place(*size, SIDE, resize)
    g = SIDE // stride
    cells = list(np.ndindex(g, g))
    heatmaps = np.zeros((len(cells), g, g), np.float32)
    for n, cell in enumerate(cells):
        heatmaps[n][cell] = 1
    placements = jnp.tile(jnp.array(placement, jnp.int32), (len(cells), 1))
    rows, columns, inside = map(
        np.array, original_size.peak_at_original_size(heatmaps, placements, stride)
    )
    for n, cell in enumerate(cells):
        pixel = slow_pixel(cell, stride, placement)
        # With a side of one pixel, the cell may be completely in the border.
        assert inside[n] == (pixel is not None)
        if pixel is not None:
            assert (rows[n], columns[n]) == pixel
