"""D-DBPN weights under the official names, against the network restated in float64."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from edgekeeper.errors import CheckpointError
from edgekeeper.models import DBPN
from edgekeeper.pretrained.published import load_published

Weights = dict[str, Tensor]
WIDTH, FIRST, STAGES = 3, 5, 4


def weights(*, scale: int = 4, stages: int = STAGES) -> Weights:
    """Random weights and slopes under the official names."""
    generator = torch.Generator().manual_seed(scale)
    found: Weights = {}

    def layer(name: str, kind: str, *, out: int, of: int, size: int, slope: bool = True) -> None:
        shape = (of, out) if kind == "deconv" else (out, of)
        reads = of * (size / scale) ** 2 if kind == "deconv" else of * size**2
        weight = torch.randn(*shape, size, size, generator=generator) / math.sqrt(reads)
        found[f"{name}.{kind}.weight"] = weight
        found[f"{name}.{kind}.bias"] = torch.randn(out, generator=generator) * 0.1
        if slope:
            found[f"{name}.act.weight"] = torch.rand(1, generator=generator)

    def unit(name: str, *, inputs: int) -> None:
        direction = name.rstrip("0123456789")
        if inputs > 1:
            layer(f"{name}.conv", "conv", out=WIDTH, of=inputs * WIDTH, size=1)
        kinds = ["deconv", "conv", "deconv"] if direction == "up" else ["conv", "deconv", "conv"]
        for k, kind in enumerate(kinds, start=1):
            layer(f"{name}.{direction}_conv{k}", kind, out=WIDTH, of=WIDTH, size=scale + 4)

    layer("feat0", "conv", out=FIRST, of=3, size=3)
    layer("feat1", "conv", out=WIDTH, of=FIRST, size=1)
    for n in range(1, stages + 1):
        unit(f"up{n}", inputs=max(1, n - 1))
        if n < stages:
            unit(f"down{n}", inputs=n)
    layer("output_conv", "conv", out=3, of=stages * WIDTH, size=3, slope=False)
    return found


def restated(found: Weights, x: Tensor, *, scale: int, stages: int = STAGES) -> Tensor:
    """The network as its paper and code define it."""
    double = {name: tensor.double() for name, tensor in found.items()}

    def layer(maps: Tensor, name: str) -> Tensor:
        if f"{name}.deconv.weight" in double:
            weight, bias = double[f"{name}.deconv.weight"], double[f"{name}.deconv.bias"]
            made = F.conv_transpose2d(maps, weight, bias, stride=scale, padding=2)
        else:
            weight, bias = double[f"{name}.conv.weight"], double[f"{name}.conv.bias"]
            size = weight.shape[-1]
            stride, padding = (scale, 2) if size > 3 else (1, size // 2)
            made = F.conv2d(maps, weight, bias, stride=stride, padding=padding)
        slope = double.get(f"{name}.act.weight")
        return made if slope is None else torch.where(made < 0, slope * made, made)

    def unit(maps: Tensor, name: str) -> Tensor:
        direction = name.rstrip("0123456789")
        if f"{name}.conv.conv.weight" in double:
            maps = layer(maps, f"{name}.conv")
        there = layer(maps, f"{name}.{direction}_conv1")
        back = layer(there, f"{name}.{direction}_conv2")
        return layer(back - maps, f"{name}.{direction}_conv3") + there

    highs = [unit(layer(layer(x, "feat0"), "feat1"), "up1")]
    lows: list[Tensor] = []
    for n in range(1, stages):
        lows = [unit(torch.cat(highs, dim=1), f"down{n}"), *lows]
        highs = [unit(torch.cat(lows, dim=1), f"up{n + 1}"), *highs]
    return layer(torch.cat(highs, dim=1), "output_conv")


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_it_equals_the_official_network(saved: Callable[..., Path], scale: int) -> None:
    found = weights(scale=scale)
    model = load_published(saved(found))
    assert isinstance(model, DBPN) and not model.training
    assert (model.scale, model.channels, len(model.ups)) == (scale, "rgb", STAGES)
    lr = torch.rand(2, 3, 3, 5, generator=torch.Generator().manual_seed(9)).double()
    expected = restated(found, lr, scale=scale)
    with torch.no_grad():
        sr = model.double()(lr)
    torch.testing.assert_close(sr, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))


@pytest.mark.parametrize("stages", [1, 2, 10])
def test_any_number_of_stages_is_found(saved: Callable[..., Path], stages: int) -> None:
    found = weights(scale=2, stages=stages)
    wrapped = {f"module.{name}": tensor for name, tensor in found.items()}
    model = load_published(saved(wrapped), scale=2, kind="dbpn").double()
    lr = torch.rand(1, 3, 4, 3, generator=torch.Generator().manual_seed(9)).double()
    expected = restated(found, lr, scale=2, stages=stages)
    with torch.no_grad():
        torch.testing.assert_close(model(lr), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        ("feat1.act.weight", None, r"missing feat1\.act\.weight; unknown none"),
        ("feat1.conv.weight", None, r"D-DBPN, but lacks feat1\.conv\.weight"),
        ("down2.conv.conv.bias", None, r"missing down2\.conv\.conv\.bias; unknown none"),
        ("up1.up_conv1.deconv.weight", None, r"lacks up1\.up_conv1\.deconv\.weight"),
        ("up4.up_conv3.deconv.bias", None, r"missing up4\.up_conv3\.deconv\.bias"),
        ("output_conv.act.weight", (1,), r"missing none; unknown output_conv\.act\.weight"),
        ("up1.up_conv1.deconv.weight", (3,), r"deconv\.weight is \(3,\), no convolution"),
        ("up1.up_conv1.deconv.weight", (3, 3, 7, 7), "kernels are 7 wide; .* 6, 8 and 12"),
        ("feat1.act.weight", (3,), r"feat1\.act\.weight is \(3,\), but DBPN needs \(1,\)"),
    ],
)
def test_what_does_not_fit_is_named(
    refuses: Callable[..., None], name: str, shape: tuple[int, ...] | None, sentence: str
) -> None:
    refuses(weights(), name=name, shape=shape, sentence=sentence)


def test_another_scale_is_refused(saved: Callable[..., Path]) -> None:
    for scale in (2, 8):
        path = saved(weights(scale=scale))
        with pytest.raises(CheckpointError, match=f"a network for scale {scale}, not 4"):
            load_published(path, scale=4)
