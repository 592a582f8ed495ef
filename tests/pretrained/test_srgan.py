"""SRGAN's generator as three programs publish it, restated here, and the scores of Keras's file."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from edgekeeper.data.pairs import load_pairs
from edgekeeper.errors import CheckpointError
from edgekeeper.inference.network import infer
from edgekeeper.metrics import lpips, psnr
from edgekeeper.models import MSRResNet, SRResNet
from edgekeeper.pretrained import zoo
from edgekeeper.pretrained.published import load_published, read_weights

Weights = dict[str, Tensor]
WIDTH = 8


class Maker:
    """Random tensors of a size that keeps maps of the size of the input."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, deviation: float = 1.0, mean: float = 0.0) -> Tensor:
        return mean + deviation * torch.randn(shape, generator=self.generator)

    def kernel(self, out: int, of: int, *, size: int = 3) -> Tensor:
        return self.normal(out, of, size, size, deviation=1 / math.sqrt(of * size**2))

    def positive(self, *shape: int) -> Tensor:
        return 0.5 + torch.rand(shape, generator=self.generator)


def prelu(maps: Tensor, slopes: Tensor) -> Tensor:
    return torch.where(maps < 0, slopes.double().reshape(1, -1, 1, 1) * maps, maps)


# ---- Keras ---------------------------------------------------------------------------------------


def keras_name(kind: str, number: int, leaf: str) -> str:
    layer = f"{kind}_{number}" if number else kind
    return f"{layer}/{layer}/{leaf}:0"


def keras_weights(*, blocks: int = 2, first: int = 0, norm: str = "batch_normalization") -> Weights:
    """Arrays as Keras stores them; ``first`` as if other networks had been made before."""
    maker = Maker(3)
    found: Weights = {}
    shapes = [(9, 3, WIDTH), *[(3, WIDTH, WIDTH)] * (2 * blocks + 1)]
    shapes += [(3, WIDTH, 4 * WIDTH)] * 2 + [(9, WIDTH, 3)]
    for n, (size, of, out) in enumerate(shapes, start=first):
        kernel = maker.normal(size, size, of, out, deviation=1 / math.sqrt(of * size**2))
        found[keras_name("conv2d", n, "kernel")] = kernel
        found[keras_name("conv2d", n, "bias")] = maker.normal(out, deviation=0.2)
    for n in range(first, first + blocks + 3):
        found[keras_name("p_re_lu", n, "alpha")] = maker.normal(1, 1, WIDTH, deviation=0.3)
    for n in range(first, first + 2 * blocks + 1):
        found[keras_name(norm, n, "gamma")] = maker.positive(WIDTH)
        found[keras_name(norm, n, "beta")] = maker.normal(WIDTH, deviation=0.2)
        found[keras_name(norm, n, "moving_mean")] = maker.normal(WIDTH, deviation=0.2)
        found[keras_name(norm, n, "moving_variance")] = maker.positive(WIDTH) / 50
    return found


def keras(found: Weights, images: Tensor, *, blocks: int = 2) -> Tensor:
    """Keras's network: (B, H, W, 3) on 0..255 in and out, as it was trained."""
    numbers = {"conv2d": 0, "p_re_lu": 0, "batch_normalization": 0}

    def next_layer(kind: str) -> Callable[[str], Tensor]:
        number = numbers[kind]
        numbers[kind] += 1
        return lambda leaf: found[keras_name(kind, number, leaf)].double()

    def conv(maps: Tensor) -> Tensor:
        layer = next_layer("conv2d")
        kernel = layer("kernel")
        weight = torch.einsum("hwio->oihw", kernel)
        return F.conv2d(maps, weight, layer("bias"), padding=kernel.shape[0] // 2)

    def norm(maps: Tensor) -> Tensor:
        layer = next_layer("batch_normalization")
        gamma, beta, mean, variance = (
            layer(leaf).view(1, -1, 1, 1)
            for leaf in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return gamma * (maps - mean) / (variance + 0.001).sqrt() + beta

    def activate(maps: Tensor) -> Tensor:
        return prelu(maps, next_layer("p_re_lu")("alpha"))

    def depth_to_space(maps: Tensor) -> Tensor:
        """tf.nn.depth_to_space with blocks of 2: map (2 row + column) C + c goes to map c."""
        batch, count, height, width = maps.shape
        large = maps.new_zeros(batch, count // 4, 2 * height, 2 * width)
        for row in (0, 1):
            for column in (0, 1):
                start = (2 * row + column) * count // 4
                large[:, :, row::2, column::2] = maps[:, start : start + count // 4]
        return large

    x = head = activate(conv(images.permute(0, 3, 1, 2).double() / 255))
    for _ in range(blocks):
        x = x + norm(conv(activate(norm(conv(x)))))
    x = head + norm(conv(x))
    for _ in range(2):
        x = activate(depth_to_space(conv(x)))
    return ((conv(x).tanh() + 1) * 127.5).permute(0, 2, 3, 1)


@pytest.mark.parametrize("first", [0, 5])
@pytest.mark.parametrize("norm", ["batch_normalization", "batch_normalization_v1"])
def test_keras_is_run_as_it_was_trained(saved: Callable[..., Path], norm: str, first: int) -> None:
    path = saved(keras_weights(first=first, norm=norm))
    model = load_published(path)
    assert isinstance(model, SRResNet) and not model.training
    assert (model.scale, model.channels, len(model.blocks)) == (4, "rgb", 2)
    images = torch.randint(0, 256, (2, 5, 6, 3))
    expected = keras(keras_weights(), images)
    assert expected.min() < 100 < 155 < expected.max()
    with torch.no_grad():
        sr = model.double()(images.permute(0, 3, 1, 2).double() / 255)
    torch.testing.assert_close(255 * sr, expected.permute(0, 3, 1, 2))
    again = load_published(path, scale=4, kind="srgan_keras")
    assert torch.equal(again.state_dict()["last.weight"], model.float().state_dict()["last.weight"])


def test_keras_files_are_for_x4(saved: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match="a network for scale 4, not 2"):
        load_published(saved(keras_weights()), scale=2)


# ---- PyTorch -------------------------------------------------------------------------------------


def pytorch_weights(*, times: int = 2, counters: bool = True) -> Weights:
    """The five-block generator, its names in the order in which its layers run."""
    maker = Maker(4)
    found: Weights = {}

    def conv(name: str, out: int, of: int, size: int = 3) -> None:
        found[f"{name}.weight"] = maker.kernel(out, of, size=size)
        found[f"{name}.bias"] = maker.normal(out, deviation=0.2)

    def norm(name: str) -> None:
        found[f"{name}.weight"] = maker.positive(WIDTH)
        found[f"{name}.bias"] = maker.normal(WIDTH, deviation=0.2)
        found[f"{name}.running_mean"] = maker.normal(WIDTH, deviation=0.2)
        found[f"{name}.running_var"] = maker.positive(WIDTH)
        if counters:
            found[f"{name}.num_batches_tracked"] = torch.tensor(700)

    conv("block1.0", WIDTH, 3, 9)
    found["block1.1.weight"] = maker.normal(1, deviation=0.3)
    for block in range(2, 7):
        for k in (1, 2):
            conv(f"block{block}.conv{k}", WIDTH, WIDTH)
            norm(f"block{block}.bn{k}")
        found[f"block{block}.prelu.weight"] = maker.normal(1, deviation=0.3)
    conv("block7.0", WIDTH, WIDTH)
    norm("block7.1")
    for n in range(times):
        conv(f"block8.{n}.conv", 4 * WIDTH, WIDTH)
        found[f"block8.{n}.prelu.weight"] = maker.normal(1, deviation=0.3)
    conv(f"block8.{times}", 3, WIDTH, 9)
    return found


def pytorch(found: Weights, lr: Tensor, *, times: int) -> Tensor:
    """That generator, RGB in [0, 1] in and out, in float64."""
    own = {name: tensor.double() for name, tensor in found.items()}

    def conv(maps: Tensor, name: str) -> Tensor:
        weight = own[f"{name}.weight"]
        return F.conv2d(maps, weight, own[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def norm(maps: Tensor, name: str) -> Tensor:
        mean, variance = own[f"{name}.running_mean"], own[f"{name}.running_var"]
        weight, bias = own[f"{name}.weight"], own[f"{name}.bias"]
        return F.batch_norm(maps, mean, variance, weight, bias)

    x = head = prelu(conv(lr.double(), "block1.0"), own["block1.1.weight"])
    for block in range(2, 7):
        name = f"block{block}"
        maps = norm(conv(x, f"{name}.conv1"), f"{name}.bn1")
        maps = prelu(maps, own[f"{name}.prelu.weight"])
        x = x + norm(conv(maps, f"{name}.conv2"), f"{name}.bn2")
    x = head + norm(conv(x, "block7.0"), "block7.1")
    for n in range(times):
        x = F.pixel_shuffle(conv(x, f"block8.{n}.conv"), 2)
        x = prelu(x, own[f"block8.{n}.prelu.weight"])
    return (conv(x, f"block8.{times}").tanh() + 1) / 2


@pytest.mark.parametrize("counters", [True, False])
@pytest.mark.parametrize("times", [1, 2])
def test_pytorch_s_five_blocks(saved: Callable[..., Path], times: int, counters: bool) -> None:
    found = pytorch_weights(times=times, counters=counters)
    model = load_published(saved(found))
    assert isinstance(model, SRResNet) and not model.training
    assert (model.scale, len(model.blocks)) == (2**times, 5)
    lr = torch.rand(2, 3, 6, 5)
    with torch.no_grad():
        expected = pytorch(found, lr, times=times)
        torch.testing.assert_close(model.double()(lr.double()), expected)


def test_pytorch_s_x8_is_refused(saved: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match="an SRGAN that enlarges by 8"):
        load_published(saved(pytorch_weights(times=3)))


# ---- MSRResNet -----------------------------------------------------------------------------------


def basicsr_weights(scale: int, *, trunk: str = "body", blocks: int = 3) -> Weights:
    """BasicSR's MSRResNet; before it was ``body``, its trunk was called ``recon_trunk``."""
    maker = Maker(scale)
    high = "conv_hr" if trunk == "body" else "HRconv"
    shapes = {"conv_first": (WIDTH, 3)}
    shapes |= {f"{trunk}.{i}.conv{k}": (WIDTH, WIDTH) for i in range(blocks) for k in (1, 2)}
    shapes["upconv1"] = (WIDTH * (4 if scale == 4 else scale**2), WIDTH)
    if scale == 4:
        shapes["upconv2"] = (4 * WIDTH, WIDTH)
    shapes |= {high: (WIDTH, WIDTH), "conv_last": (3, WIDTH)}
    found: Weights = {}
    for name, (out, of) in shapes.items():
        found[f"{name}.weight"] = maker.kernel(out, of)
        found[f"{name}.bias"] = maker.normal(out, deviation=0.2)
    return found


def basicsr(found: Weights, lr: Tensor, *, scale: int, blocks: int = 3) -> Tensor:
    """The network in float64, its layers in the order of the file."""
    layers = iter([name.removesuffix(".weight") for name in found if name.endswith(".weight")])

    def conv(maps: Tensor) -> Tensor:
        name = next(layers)
        weight, bias = found[f"{name}.weight"].double(), found[f"{name}.bias"].double()
        return F.conv2d(maps, weight, bias, padding=1)

    def lrelu(maps: Tensor) -> Tensor:
        return torch.where(maps < 0, 0.1 * maps, maps)

    x = lrelu(conv(lr.double()))
    for _ in range(blocks):
        x = x + conv(conv(x).clamp(min=0))
    for factor in (2, 2) if scale == 4 else (scale,):
        x = lrelu(F.pixel_shuffle(conv(x), factor))
    base = F.interpolate(lr.double(), scale_factor=scale, mode="bilinear", align_corners=False)
    return base + conv(lrelu(conv(x)))


@pytest.mark.parametrize("trunk", ["body", "recon_trunk"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_basicsr_s_msrresnet(saved: Callable[..., Path], scale: int, trunk: str) -> None:
    found = basicsr_weights(scale, trunk=trunk)
    model = load_published(saved({"params": found}))
    assert isinstance(model, MSRResNet) and not model.training
    assert (model.scale, len(model.blocks)) == (scale, 3)
    lr = torch.rand(2, 3, 5, 6)
    with torch.no_grad():
        expected = basicsr(found, lr, scale=scale)
        torch.testing.assert_close(model.double()(lr.double()), expected)
    with pytest.raises(CheckpointError, match=f"a network for scale {scale}, not"):
        load_published(saved(found), scale=5 - scale if scale < 4 else 3)


# ---- what does not fit ---------------------------------------------------------------------------

# whose weights, what is taken away, what is added, what the error says
MISFITS: dict[str, tuple[Callable[[], Weights], str, str, str]] = {
    "keras_missing": (
        keras_weights,
        "conv2d_3/conv2d_3/bias:0",
        "",
        r"missing conv2d_3/conv2d_3/bias:0; unknown none",
    ),
    "keras_unknown": (
        keras_weights,
        "",
        "dense/dense/kernel:0",
        r"missing none; unknown dense/dense/kernel:0",
    ),
    "keras_far": (
        keras_weights,
        "",
        "p_re_lu_999999999/p_re_lu_999999999/alpha:0",
        r"missing batch_norm",
    ),
    "pytorch_missing": (
        pytorch_weights,
        "block4.bn2.running_var",
        "",
        r"missing block4\.bn2\.running_var; unknown none",
    ),
    "pytorch_unknown": (
        pytorch_weights,
        "",
        "block7.2.weight",
        r"missing none; unknown block7\.2\.weight",
    ),
    "basicsr_missing": (
        lambda: basicsr_weights(4),
        "upconv2.weight",
        "",
        r"missing upconv2\.weight; unknown none",
    ),
    "basicsr_unknown": (
        lambda: basicsr_weights(3),
        "",
        "conv_body.bias",
        r"missing none; unknown conv_body\.bias",
    ),
    "basicsr_far": (lambda: basicsr_weights(3), "", "body.999999999.conv1.bias", r"missing body\."),
}


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_is_named(saved: Callable[..., Path], case: str) -> None:
    make, missing, unknown, message = MISFITS[case]
    found = make()
    if missing:
        del found[missing]
    if unknown:
        found[unknown] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=message):
        load_published(saved(found))


# whose weights, which entry gets another shape
SHAPES: dict[str, tuple[Callable[[], Weights], str]] = {
    "keras_head": (keras_weights, "conv2d/conv2d/kernel:0"),
    "keras_shuffled": (keras_weights, "conv2d_6/conv2d_6/bias:0"),
    "keras_slopes": (keras_weights, "p_re_lu_1/p_re_lu_1/alpha:0"),
    "pytorch_head": (pytorch_weights, "block1.0.weight"),
    "pytorch_block": (pytorch_weights, "block3.bn1.weight"),
    "basicsr_enlarger": (lambda: basicsr_weights(2), "upconv1.weight"),
    "basicsr_last": (lambda: basicsr_weights(2), "conv_last.bias"),
}


@pytest.mark.parametrize("shape", [(), (0,), (2, 2), (5, 4, 3, 3)])
@pytest.mark.parametrize("case", SHAPES)
def test_wrong_shapes_are_named(
    saved: Callable[..., Path], case: str, shape: tuple[int, ...]
) -> None:
    make, name = SHAPES[case]
    found = make()
    found[name] = torch.zeros(shape)
    with pytest.raises(CheckpointError) as caught:
        load_published(saved(found))
    assert "network.pth" in str(caught.value)
    assert name in str(caught.value) or shape == (5, 4, 3, 3)  # of which the others do not fit


@pytest.mark.parametrize("kind", ["srgan_keras", "srgan", "msrresnet"])
def test_files_of_other_networks_are_refused(saved: Callable[..., Path], kind: str) -> None:
    path = saved({"conv_1.weight": torch.zeros(64, 3, 5, 5)})
    with pytest.raises(
        CheckpointError, match=r"missing .*; unknown conv_1\.weight|but lacks \w+\.0?\.?weight"
    ):
        load_published(path, scale=4, kind=kind)


# ---- the published file --------------------------------------------------------------------------


@pytest.mark.data
def test_the_published_keras_file_as_keras_runs_it(data_root: Path) -> None:
    path = data_root / "weights" / "srgan_generator_x4.h5"
    model = zoo.load(path)
    assert isinstance(model, SRResNet)
    assert (len(model.blocks), model.output, model.after_norm.eps) == (16, "tanh", 0.001)
    found = {
        name.replace("batch_normalization_v1", "batch_normalization"): tensor
        for name, tensor in read_weights(path).items()
    }
    images = torch.randint(0, 256, (1, 12, 9, 3), generator=torch.Generator().manual_seed(1))
    expected = keras(found, images, blocks=16)
    with torch.no_grad():
        sr = 255 * model.double()(images.permute(0, 3, 1, 2).double() / 255)
    torch.testing.assert_close(sr, expected.permute(0, 3, 1, 2), rtol=0, atol=1e-9)


@pytest.mark.data
@pytest.mark.slow
def test_the_published_keras_file_reaches_its_scores(data_root: Path) -> None:
    """Set5 x4, float luma, border 4; LPIPS of the whole image."""
    model = zoo.load(data_root / "weights" / "srgan_generator_x4.h5")
    values = []
    for pair in load_pairs("Set5", scale=4, root=data_root):
        sr, hr = infer(model, pair.lr()), pair.hr()
        distance = lpips(sr, hr, folder=data_root / "weights")
        values.append(torch.stack([psnr(sr, hr, protocol="y_float", scale=4)[0], distance[0]]))
    decibels, distance = torch.stack(values).mean(0).tolist()
    assert decibels == pytest.approx(29.187, abs=0.005)
    assert distance == pytest.approx(0.0880, abs=0.0001)
