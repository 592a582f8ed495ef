"""RRDB weights under each set of published names, restated here, and what does not fit."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import save_file
from torch import Tensor

from edgekeeper.errors import CheckpointError, InputError
from edgekeeper.models import RRDB
from edgekeeper.pretrained.published import load_published

Weights = dict[str, Tensor]
WIDTH, GROWTH, BLOCKS = 6, 3, 2


def names(naming: str, *, enlargements: int = 2, blocks: int = BLOCKS) -> list[str]:
    """The layers of the network in the order they run, as the three codes name them."""
    dense = itertools.product(range(blocks), (1, 2, 3), (1, 2, 3, 4, 5))
    if naming == "old":  # numbered as the layers of one nn.Sequential; see the two lists below
        inner = [f"model.1.sub.{i}.RDB{j}.conv{k}.0" for i, j, k in dense]
        tail = {1: [3, 5, 7], 2: [3, 6, 8, 10], 3: [3, 6, 9, 11, 13], 0: [2, 4]}[enlargements]
        return ["model.0", *inner, f"model.1.sub.{blocks}", *[f"model.{n}" for n in tail]]
    if naming == "new":
        inner = [f"RRDB_trunk.{i}.RDB{j}.conv{k}" for i, j, k in dense]
        ups = [f"upconv{n + 1}" for n in range(enlargements)]
        return ["conv_first", *inner, "trunk_conv", *ups, "HRconv", "conv_last"]
    inner = [f"body.{i}.rdb{j}.conv{k}" for i, j, k in dense]
    ups = [f"conv_up{n + 1}" for n in range(enlargements)]
    return ["conv_first", *inner, "conv_body", *ups, "conv_hr", "conv_last"]


def weights(naming: str, *, enlargements: int = 2, colours: int = 3) -> Weights:
    """Random weights; the same for each naming."""
    generator = torch.Generator().manual_seed(7)
    shapes = [(WIDTH, colours)]
    for _ in range(BLOCKS * 3):
        shapes += [(GROWTH, WIDTH + k * GROWTH) for k in range(4)] + [(WIDTH, WIDTH + 4 * GROWTH)]
    shapes += [(WIDTH, WIDTH)] * (1 + enlargements + 1) + [(3, WIDTH)]
    found: Weights = {}
    for name, (out, of) in zip(names(naming, enlargements=enlargements), shapes, strict=True):
        found[f"{name}.weight"] = torch.randn(out, of, 3, 3, generator=generator) / (9 * of) ** 0.5
        found[f"{name}.bias"] = torch.randn(out, generator=generator) * 0.2
    return found


def restated(found: Weights, lr: Tensor, *, factors: tuple[int, ...]) -> Tensor:
    """The network run layer by layer in the order of the file."""
    layers = iter([(found[f"{n[:-7]}.weight"], found[n[:-7] + ".bias"]) for n in list(found)[::2]])

    def conv(maps: Tensor) -> Tensor:
        weight, bias = next(layers)
        return F.conv2d(maps, weight, bias, padding=1)

    def lrelu(maps: Tensor) -> Tensor:
        return F.leaky_relu(maps, 0.2)

    x = head = conv(lr)
    for _ in range(BLOCKS):
        start = x
        for _ in range(3):
            maps = x
            for _ in range(4):
                maps = torch.cat([maps, lrelu(conv(maps))], dim=1)
            x = x + 0.2 * conv(maps)
        x = start + 0.2 * x
    x = head + conv(x)
    for factor in factors:
        x = lrelu(conv(x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)))
    return conv(lrelu(conv(x)))


@pytest.mark.parametrize("naming", ["old", "new", "basicsr"])
def test_each_naming_gives_the_network(saved: Callable[..., Path], naming: str) -> None:
    found = weights(naming)
    model = load_published(saved(found))
    assert isinstance(model, RRDB) and not model.training
    assert (model.scale, model.channels, len(model.blocks)) == (4, "rgb", BLOCKS)
    lr = torch.rand(2, 3, 5, 4)
    with torch.no_grad():
        expected = restated(found, lr, factors=(2, 2))
        torch.testing.assert_close(model(lr), expected, rtol=1e-5, atol=1e-5)
    same = load_published(saved(found), scale=4, kind="esrgan")
    for name, tensor in model.state_dict().items():
        assert torch.equal(same.state_dict()[name], tensor)


def test_the_three_namings_are_one_network(saved: Callable[..., Path]) -> None:
    models = [load_published(saved(weights(n))) for n in ("old", "new", "basicsr")]
    lr = torch.rand(1, 3, 6, 5)
    with torch.no_grad():
        one, two, three = (model(lr) for model in models)
    assert torch.equal(one, two) and torch.equal(one, three)


@pytest.mark.parametrize("naming", ["old", "new", "basicsr"])
def test_one_enlargement_is_x2_unless_x3_is_asked_for(
    saved: Callable[..., Path], naming: str
) -> None:
    found = weights(naming, enlargements=1)
    path, lr = saved(found), torch.rand(1, 3, 4, 5)
    for asked, scale in ((None, 2), (2, 2), (3, 3)):
        model = load_published(path, scale=asked)
        assert model.scale == scale
        with torch.no_grad():
            expected = restated(found, lr, factors=(scale,))
            torch.testing.assert_close(model(lr), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(CheckpointError, match="a network for scale 2, not 4"):
        load_published(path, scale=4)
    with pytest.raises(CheckpointError, match="a network for scale 4, not 3"):
        load_published(saved(weights(naming)), scale=3)
    with pytest.raises(InputError, match="no scale 5"):
        load_published(path, scale=5)


@pytest.mark.parametrize("naming", ["old", "basicsr"])
def test_x2_of_real_esrgan_shows_by_its_channels(saved: Callable[..., Path], naming: str) -> None:
    found = weights(naming, colours=12)
    model = load_published(saved({"params_ema": found}))
    assert isinstance(model, RRDB)
    assert (model.scale, model.unshuffle) == (2, 2)
    lr = torch.rand(1, 3, 6, 4)
    with torch.no_grad():
        expected = restated(found, F.pixel_unshuffle(lr, 2), factors=(2, 2))
        torch.testing.assert_close(model(lr), expected, rtol=1e-5, atol=1e-5)


def test_training_states_and_safetensors_are_looked_through(
    tmp_path: Path, saved: Callable[..., Path]
) -> None:
    found = weights("basicsr")
    plain = load_published(saved(found)).state_dict()
    other = {name: tensor + 1 for name, tensor in found.items()}
    contents = [
        {"params": other, "params_ema": found},  # the running average is what its authors use
        {"params": found},
        {"state_dict": {f"module.{name}": tensor for name, tensor in found.items()}, "epoch": 3},
        {name: tensor.double() for name, tensor in found.items()},
    ]
    paths = [saved(content, name=f"{i}.pth") for i, content in enumerate(contents)]
    save_file(found, str(tmp_path / "x.safetensors"))
    for path in (*paths, tmp_path / "x.safetensors"):
        again = load_published(path).state_dict()
        assert all(torch.equal(again[name], tensor) for name, tensor in plain.items()), path


def test_half_precision_becomes_float32(saved: Callable[..., Path]) -> None:
    found = {name: tensor.half() for name, tensor in weights("old").items()}
    model = load_published(saved(found))
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    assert torch.equal(model.state_dict()["head.weight"], found["model.0.weight"].float())


@pytest.mark.parametrize(
    ("naming", "name", "shape", "sentence"),
    [
        ("old", "model.6", None, r"missing model\.6\.bias, model\.6\.weight; unknown none"),
        ("old", "model.10", None, r"missing model\.10\.bias, model\.10\.weight; unknown none"),
        ("old", "model.1.sub.2", None, r"missing model\.1\.sub\.2\.bias"),
        ("new", "RRDB_trunk.0.RDB2.conv3", None, r"missing RRDB_trunk\.0\.RDB2\.conv3\.bias"),
        ("new", "trunk_conv", None, r"missing trunk_conv\.bias, trunk_conv\.weight"),
        ("basicsr", "conv_first", None, r"lacks conv_first\.weight"),
        ("basicsr", "body.0.rdb1.conv1", None, r"lacks body\.0\.rdb1\.conv1\.weight"),
        ("basicsr", "extra.weight", (1,), r"missing none; unknown extra\.weight"),
        ("new", "RRDB_trunk.0.conv1x1.weight", (1,), r"unknown RRDB_trunk\.0\.conv1x1"),
        (
            "basicsr",
            "conv_hr.weight",
            (6, 5, 3, 3),
            r"conv_hr\.weight is \(6, 5, 3, 3\), but RRDB needs \(6, 6, 3, 3\)",
        ),
        ("old", "model.0.weight", (6,), r"model\.0\.weight is \(6,\), no convolution"),
        ("old", "model.0.weight", (6, 1, 3, 3), "with 1 channels in; .* takes RGB"),
        (
            "old",
            "model.0.weight",
            (6, 48, 3, 3),
            "RRDB with 48 channels in; edgekeeper's takes RGB",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    refuses: Callable[..., None],
    naming: str,
    name: str,
    shape: tuple[int, ...] | None,
    sentence: str,
) -> None:
    refuses(weights(naming), name=name, shape=shape, sentence=sentence)


@pytest.mark.parametrize(("enlargements", "factor"), [(0, 1), (3, 8)])
def test_other_factors_are_refused(
    saved: Callable[..., Path], enlargements: int, factor: int
) -> None:
    found = weights("old", enlargements=enlargements)
    with pytest.raises(CheckpointError, match=f"enlarges by {factor}; edgekeeper has 2, 3 and 4"):
        load_published(saved(found))


def test_what_is_not_known_is_described(saved: Callable[..., Path]) -> None:
    content = {
        "layers.0.attention.weight": torch.zeros(2),
        "layers.0.attention.bias": torch.ones(2),
    }
    with pytest.raises(CheckpointError) as caught:
        load_published(saved(content))
    sentence = str(caught.value)
    assert "2 tensors (layers.0.attention.bias, layers.0.attention.weight)" in sentence
    assert "Real-ESRGAN" in sentence and "extra 'community'" in sentence


def test_files_of_known_scale_need_none_and_vdsr_needs_one(saved: Callable[..., Path]) -> None:
    espcn = {}
    for name, shape in {
        "conv_1": (64, 3, 5, 5),
        "conv_2": (32, 64, 3, 3),
        "conv_3": (27, 32, 3, 3),
    }.items():
        espcn |= {f"{name}.weight": torch.zeros(shape), f"{name}.bias": torch.zeros(shape[0])}
    assert load_published(saved(espcn)).scale == 3
    vdsr = {"input.weight": torch.zeros(64, 1, 3, 3), "output.weight": torch.zeros(1, 64, 3, 3)}
    for index in range(18):
        vdsr[f"residual_layer.{index}.conv.weight"] = torch.zeros(64, 64, 3, 3)
    path = saved(vdsr)
    assert load_published(path, scale=3).scale == 3
    with pytest.raises(
        CheckpointError, match=r"does not say by how much .* give the scale: 2, 3 or 4"
    ):
        load_published(path)
