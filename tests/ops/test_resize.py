"""MATLAB's and Pillow's resize: published weights, stored images, borders, rounding."""

import csv
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional
from torch.nn.functional import pixel_shuffle

from edgekeeper.errors import InputError
from edgekeeper.ops.resize import enlarging_maps, imresize, pillow_resize

FORM_A = {"boundary": "replicate", "quantise": "uint8"}


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def levels(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator).to(dtype) / 255


def rows(length, length_out, **options):
    """The matrix that imresize applies along the vertical axis."""
    identity = torch.eye(length, dtype=torch.float64)
    return imresize(identity, size=(length_out, length), **options)


# Weights: worked out from the kernel by an independent script; the interior rows are also
# a = -0.5 of Keys (1981) at the distances (2k + 1)/8, (2k + 1)/4, k/3, times 1/4, 1/2, 1/3.
QUARTER = np.array([-7, -45, -75, -49, 93, 399, 745, 987]) / 4096
HALF = np.array([-3, -9, 29, 111]) / 256
THIRD = np.array([-1, -2, 0, 9, 21, 27]) / 81


@pytest.mark.parametrize(
    ("length", "factor", "row", "first", "half"),
    [(32, 4, 3, 6, QUARTER), (16, 2, 3, 3, HALF), (24, 3, 3, 5, THIRD)],
)
def test_interior_weights_when_shrinking(length, factor, row, first, half):
    mirrored = half[::-1][1:] if factor == 3 else half[::-1]
    expected = np.zeros(length)
    both = np.concatenate([half, mirrored])
    expected[first : first + len(both)] = both
    np.testing.assert_allclose(rows(length, length // factor)[row], expected, atol=1e-12)


def test_first_row_when_shrinking_mirrors_the_border():
    expected = np.zeros(32)
    # Reference: the same independent script.
    expected[:10] = [
        *(0.279296875, 0.263671875, 0.22900390625, 0.16357421875, 0.08642578125),
        *(0.02099609375, -0.011962890625, -0.018310546875, -0.010986328125, -0.001708984375),
    ]
    np.testing.assert_allclose(rows(32, 8)[0], expected, atol=1e-12)


def test_weights_when_enlarging():
    matrix = rows(8, 32)
    far, near = (
        [-0.0439453125, 0.3896484375, 0.7275390625, -0.0732421875],
        [*(-0.0068359375, 0.0908203125, 0.9638671875, -0.0478515625)],
    )
    np.testing.assert_allclose(matrix[12, 1:5], far, atol=1e-12)
    np.testing.assert_allclose(matrix[13, 1:5], near, atol=1e-12)
    np.testing.assert_allclose(matrix[14, 2:6], near[::-1], atol=1e-12)
    np.testing.assert_allclose(matrix[15, 2:6], far[::-1], atol=1e-12)


def test_a_image_against_reference_values():
    # Pixels of the linear congruential generator 1664525 s + 1013904223 mod 2^32, seed 21;
    # values by an independent numpy script, within 5e-5 of BasicSR's imresize.
    state, pixels = 21, []
    for _ in range(16 * 12):
        state = (1664525 * state + 1013904223) % 2**32
        pixels.append(state >> 24)
    x = torch.tensor(pixels, dtype=torch.float64).reshape(16, 12)
    assert x[0, :4].tolist() == [62, 46, 50, 113]
    quarter = [
        [125.57587295770645, 131.3860386610031, 88.13012939691544],
        [122.20202630758286, 128.8729174733162, 119.80408453941345],
        [130.4737384915352, 100.95226675271988, 106.33217346668243],
        [114.0115458369255, 111.49599146842957, 130.20071464776993],
    ]
    np.testing.assert_allclose(imresize(x, scale=1 / 4), quarter, atol=1e-9)
    half = [83.12284851074219, 118.77113342285156, 125.33938598632812, 127.03401184082031]
    np.testing.assert_allclose(imresize(x, scale=1 / 2)[0, :4], half, atol=1e-9)
    double = [68.1318359375, 57.478515625, 36.171875, 26.251953125, 27.71875, 53.088623046875]
    np.testing.assert_allclose(imresize(x, scale=2)[0, :6], double, atol=1e-9)


@pytest.mark.parametrize("scale", [0.5, 0.25, 1 / 3, 2, 3, 4, 0.4])
@pytest.mark.parametrize(("boundary", "mode"), [("symmetric", "symmetric"), ("replicate", "edge")])
def test_equals_torch_antialias_inside_a_padded_image(scale, boundary, mode):
    # An independent implementation of the same kernel with another rule for borders.
    x = noise(2, 60, 120)
    border = 60  # wider than any of the kernels; all sides are whole after scaling
    padded = np.pad(x.numpy(), ((0, 0), (border, border), (border, border)), mode=mode)
    size = [round(n * scale) for n in padded.shape[-2:]]
    theirs = functional.interpolate(
        torch.from_numpy(padded)[None], size=size, mode="bicubic", antialias=True
    )[0]
    ours = imresize(x, scale=scale, boundary=boundary)
    cut = round(border * scale)
    inside = theirs[:, cut : cut + ours.shape[-2], cut : cut + ours.shape[-1]]
    torch.testing.assert_close(ours, inside, rtol=0, atol=1e-12)


def test_a_border_wider_than_the_image():
    x = noise(3, 4)
    padded = torch.from_numpy(np.pad(x.numpy(), 48, mode="symmetric"))
    expected = imresize(padded, scale=1 / 6)[8:-8, 8:-8]
    torch.testing.assert_close(imresize(x, scale=1 / 6), expected[:1, :1], rtol=0, atol=1e-12)
    one = noise(1, 1)
    torch.testing.assert_close(imresize(one, scale=5), one.expand(5, 5), rtol=0, atol=1e-15)


@pytest.mark.parametrize("scale", [1 / 3, 0.37, 1, 2, 3, 2.6])
def test_properties(scale):
    x = noise(2, 3, 18, 15)
    resized = imresize(x, scale=scale)
    close = {"rtol": 0, "atol": 1e-13}
    torch.testing.assert_close(imresize(torch.ones_like(x), scale=scale), resized * 0 + 1, **close)
    torch.testing.assert_close(imresize(x.mT, scale=scale), resized.mT, **close)
    torch.testing.assert_close(imresize(x[1, 2], scale=scale), resized[1, 2], **close)
    torch.testing.assert_close(imresize(3 * x - 1, scale=scale), 3 * resized - 1, **close)
    if float(scale).is_integer() or scale == 1 / 3:
        flipped = imresize(x.flip(-1), scale=scale)
        torch.testing.assert_close(flipped, resized.flip(-1), **close)
    if scale == 1:
        torch.testing.assert_close(resized, x, **close)


def test_shrinking_again_what_was_enlarged_keeps_a_ramp():
    ramp = torch.linspace(0, 1, 40, dtype=torch.float64).expand(40, 40)
    enlarged = imresize(ramp, scale=3)[:, 12:-12]
    step = enlarged[:, 1:] - enlarged[:, :-1]
    torch.testing.assert_close(step, torch.full_like(step, 1 / 39 / 3), rtol=0, atol=1e-12)


def test_output_sizes():
    x = noise(255, 7)
    assert imresize(x, scale=1 / 3).shape == (85, 3)
    assert imresize(x, scale=0.1).shape == (26, 1)
    assert imresize(x, size=(9, 20)).shape == (9, 20)
    assert imresize(noise(2, 1, 3, 4, 5), scale=2).shape == (2, 1, 3, 8, 10)
    assert imresize(noise(0, 3, 4, 5), scale=2).shape == (0, 3, 8, 10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_kept(dtype):
    x = noise(3, 12, 10, dtype=torch.float32).to(dtype)
    resized = imresize(x, scale=2)
    assert resized.dtype == dtype
    expected = imresize(x.double(), scale=2)
    tolerance = {torch.float64: 0, torch.float32: 3e-7}.get(dtype, torch.finfo(dtype).eps)
    torch.testing.assert_close(resized.double(), expected, rtol=0, atol=tolerance)


def test_float32_is_as_exact_as_its_digits():
    x = noise(3, 200, 300)
    difference = imresize(x.float(), scale=0.25).double() - imresize(x, scale=0.25)
    assert difference.abs().max() < 3e-7


@pytest.mark.parametrize(
    "options",
    [{"scale": 0.5}, {"scale": 2}, {"size": (3, 9)}, {"scale": 3, "boundary": "replicate"}],
)
def test_derivatives(options):
    x = noise(2, 5, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: imresize(t, **options), x)
    assert torch.autograd.gradgradcheck(lambda t: imresize(t, **options) ** 2, x)


@pytest.mark.parametrize("factor", [2, 4])
def test_halves_are_rounded_upwards_in_float32(factor):
    # The weights are multiples of 2^-8 and 2^-12, so that float64 shows every half exactly.
    x = levels(256, 256, seed=factor)
    x = torch.where(levels(256, 256, seed=9) > 0.5, x, x.round())  # extremes too: clips occur
    matrix = rows(256, 256 // factor, boundary="replicate")
    first = matrix @ (x.double() * 255).round()
    assert ((first % 1) == 0.5).sum() > 2
    assert (first < 0).any()
    assert (first > 255).any()
    first = torch.floor(first.clamp(0, 255) + 0.5)
    second = torch.floor((first @ matrix.T).clamp(0, 255) + 0.5)
    ours = imresize(x.requires_grad_(), scale=1 / factor, **FORM_A)
    assert torch.equal(ours, second.float() / 255)
    assert torch.equal(imresize(x.double(), scale=1 / factor, **FORM_A), second / 255)
    assert not ours.requires_grad


def test_the_axis_with_the_smaller_scale_comes_first():
    x = levels(40, 40)
    options = {"boundary": "replicate", "quantise": "uint8"}
    across = imresize(x, size=(40, 10), **options)
    assert torch.equal(
        imresize(x, size=(20, 10), **options), imresize(across, size=(20, 10), **options)
    )
    down = imresize(x, size=(10, 40), **options)
    assert torch.equal(
        imresize(x, size=(10, 20), **options), imresize(down, size=(10, 20), **options)
    )
    equal = imresize(imresize(x, size=(20, 40), **options), size=(20, 20), **options)
    assert torch.equal(imresize(x, scale=0.5, **options), equal)


class Enlarge(torch.nn.Module):
    def forward(self, x):
        return imresize(imresize(x, scale=2), scale=3, boundary="replicate")


def test_a_recorded_graph_with_open_sizes_gives_the_same_image():
    sides = {2: torch.export.Dim("h", min=4, max=99), 3: torch.export.Dim("w", min=4, max=99)}
    example = noise(1, 1, 9, 11, dtype=torch.float32)
    graph = torch.export.export(Enlarge(), (example,), dynamic_shapes=(sides,), strict=False)
    # Recording comes first: nothing of it may stay behind in a cache.
    for x in (example, noise(1, 1, 30, 7, dtype=torch.float32)):
        torch.testing.assert_close(graph.module()(x), Enlarge()(x), rtol=0, atol=2e-6)


@pytest.mark.parametrize("boundary", ["symmetric", "replicate"])
@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8])
def test_the_convolution_that_graphs_record_is_the_same_at_every_size(factor, boundary):
    for size in ((1, 1), (1, 2), (2, 3), (9, 5)):
        x = noise(2, 3, *size)
        enlarge = partial(enlarging_maps, factor=factor, boundary=boundary)
        found = pixel_shuffle(enlarge(x), factor)
        expected = imresize(x, scale=factor, boundary=boundary)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
        single = pixel_shuffle(enlarge(x.float()), factor)
        torch.testing.assert_close(single.double(), expected, rtol=0, atol=5e-7)


def test_a_recorded_graph_keeps_its_precision_under_autocast():
    x = noise(1, 1, 12, 10, dtype=torch.float32)
    recorded = torch.compile(Enlarge(), backend="eager", fullgraph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(recorded(x), Enlarge()(x), rtol=0, atol=2e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_image(monkeypatch):
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    x = levels(2, 3, 60, 48)
    for scale in (1 / 2, 1 / 3, 1 / 4):
        expected = imresize(x, scale=scale, **FORM_A)
        assert torch.equal(imresize(x.cuda(), scale=scale, **FORM_A).cpu(), expected)
    for scale in (0.37, 2, 3):
        wanted, theirs = x.cuda().requires_grad_(), x.clone().requires_grad_()
        ours, expected = imresize(wanted, scale=scale), imresize(theirs, scale=scale)
        torch.testing.assert_close(ours.cpu(), expected, rtol=0, atol=1e-6)
        ours.square().sum().backward()
        expected.square().sum().backward()
        torch.testing.assert_close(wanted.grad.cpu(), theirs.grad, rtol=0, atol=1e-5)
    small = pillow_resize(x, size=(20, 31), method="bicubic")
    assert torch.equal(pillow_resize(x.cuda(), size=(20, 31), method="bicubic").cpu(), small)


@pytest.mark.parametrize(
    ("x", "options", "words"),
    [
        (torch.zeros(4, 4, dtype=torch.uint8), {"scale": 2}, "float() / 255"),
        (torch.zeros(4), {"scale": 2}, "(..., H, W)"),
        (torch.zeros(3, 0, 4), {"scale": 2}, "at least one pixel"),
        (torch.zeros(4, 4), {}, "either a scale or a size"),
        (torch.zeros(4, 4), {"scale": 2, "size": (8, 8)}, "either a scale or a size"),
        (torch.zeros(4, 4), {"scale": -2}, "positive number"),
        (torch.zeros(4, 4), {"scale": float("inf")}, "positive number"),
        (torch.zeros(4, 4), {"size": (0, 4)}, "at least 1"),
        (torch.zeros(4, 4), {"scale": 2, "boundary": "zero"}, "Known: symmetric, replicate"),
        (torch.zeros(4, 4), {"scale": 2, "quantise": "int8"}, "Known: none, uint8"),
    ],
)
def test_errors(x, options, words):
    with pytest.raises(InputError) as raised:
        imresize(x, **options)
    assert words in str(raised.value)


# Pillow -------------------------------------------------------------------------------------

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
side = st.integers(1, 80)


def by_pillow(x, size, method):
    image = Image.fromarray((x * 255).round().to(torch.uint8).numpy())
    # One axis at a time: Pillow 13 goes vertically first when the height shrinks by more than
    # twice as many pixels as the width; all other versions and sizes go horizontally first.
    image = image.resize((size[1], x.shape[0]), FILTERS[method])
    return torch.from_numpy(np.array(image.resize((size[1], size[0]), FILTERS[method])))


@given(side, side, side, side, st.sampled_from(["bilinear", "bicubic"]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_pillow_bit_for_bit(height, width, rows, columns, method, extremes):
    x = levels(height, width, seed=height * 81 + width)
    x = x.round() if extremes else x
    theirs = by_pillow(x, (rows, columns), method)
    assert torch.equal(pillow_resize(x, size=(rows, columns), method=method), theirs / 255)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_pillow_on_colour_images_in_one_call(method, factor):
    x = levels(3, 120, 96)
    image = Image.fromarray((x * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
    small = image.resize((96 // factor, 120 // factor), FILTERS[method])
    theirs = torch.from_numpy(np.array(small)).permute(2, 0, 1)
    ours = pillow_resize(x, size=(120 // factor, 96 // factor), method=method)
    assert torch.equal(ours, theirs / 255)
    back = torch.from_numpy(np.array(small.resize((96, 120), FILTERS[method]))).permute(2, 0, 1)
    assert torch.equal(pillow_resize(ours, size=(120, 96), method=method), back / 255)


def test_pillow_errors():
    with pytest.raises(InputError, match="'bilinear' or 'bicubic'"):
        pillow_resize(torch.zeros(4, 4), size=(2, 2), method="box")
    with pytest.raises(InputError, match="at least 1"):
        pillow_resize(torch.zeros(4, 4), size=(2, 0), method="bicubic")


# Stored images ----------------------------------------------------------------------------


def read(path):
    pixels = torch.from_numpy(np.array(Image.open(path)))
    return pixels / 255 if pixels.ndim == 2 else pixels.permute(2, 0, 1) / 255


@pytest.mark.data
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("name", "count"), [("Set5", 5), ("Set14", 14)])
def test_stored_lr_images_exactly(data_root, name, count, scale):
    paths = sorted((data_root / "benchmarks" / name / f"image_SRF_{scale}").glob("*_HR.png"))
    assert len(paths) == count
    for path in paths:
        lr = read(path.with_name(path.name.replace("_HR", "_LR")))
        assert torch.equal(imresize(read(path), scale=1 / scale, **FORM_A), lr), path.name


def check_bsd100(root, *, first, stop):
    with (root / "index.csv").open(newline="") as file:
        pairs = list(csv.DictReader(file))
    assert len(pairs) == 100
    for pair in pairs[first:stop]:
        original = read(root / "HR" / pair["hr_file"])
        for scale in (2, 3, 4):
            height, width = (n - n % scale for n in original.shape[-2:])
            lr = read(root / f"image_SRF_{scale}" / f"{pair['lr_name']}_SRF_{scale}_LR.png")
            ours = imresize(original[..., :height, :width], scale=1 / scale, **FORM_A)
            assert torch.equal(ours, lr), (pair, scale)


@pytest.mark.data
def test_some_stored_lr_images_of_bsd100_exactly(data_root):
    check_bsd100(data_root / "benchmarks" / "BSD100", first=0, stop=10)


@pytest.mark.data
@pytest.mark.slow
def test_all_stored_lr_images_of_bsd100_exactly(data_root):
    check_bsd100(data_root / "benchmarks" / "BSD100", first=10, stop=100)


@pytest.mark.data
@pytest.mark.parametrize(("name", "number"), [("baboon", 1), ("comic", 5)])
def test_lr_images_of_newer_matlab_exactly(data_root, name, number):
    folder = data_root / "benchmarks" / "Set14" / "image_SRF_4"
    hr = read(folder / f"img_{number:03d}_SRF_4_HR.png")
    lr = read(data_root / "results" / "ESRGAN_Set14_x4" / "LR" / f"{name}.png")
    levels_of_grey = (imresize(hr, scale=1 / 4).clamp(0, 1) * 255 + 0.5).floor()
    assert torch.equal(levels_of_grey / 255, lr)
