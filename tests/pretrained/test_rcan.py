"""RCAN weights under both published namings, against the network on 0..255 restated in float64."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from edgekeeper.errors import CheckpointError
from edgekeeper.models import EDSR, RCAN
from edgekeeper.pretrained.published import load_published

Weights = dict[str, Tensor]
MEAN = torch.tensor([0.4488, 0.4371, 0.4040]) * 255
WIDTH, GROUPS, BLOCKS, SQUEEZED = 8, 2, 3, 2


def official_names(*, scale: int) -> list[str]:
    """The layers in the order they run, as the official code names them."""
    names = ["head.0"]
    for g in range(GROUPS):
        for b in range(BLOCKS):
            block = f"body.{g}.body.{b}.body"
            names += [f"{block}.{layer}" for layer in ("0", "2", "3.conv_du.0", "3.conv_du.2")]
        names.append(f"body.{g}.body.{BLOCKS}")
    steps = ["tail.0.0", "tail.0.2"] if scale == 4 else ["tail.0.0"]
    return [*names, f"body.{GROUPS}", *steps, "tail.1"]


def basicsr_names(*, scale: int) -> list[str]:
    """The same layers, as BasicSR names them."""
    names = ["conv_first"]
    for g in range(GROUPS):
        for b in range(BLOCKS):
            block = f"body.{g}.residual_group.{b}.rcab"
            names += [f"{block}.{layer}" for layer in ("0", "2", "3.attention.1", "3.attention.3")]
        names.append(f"body.{g}.conv")
    steps = ["upsample.0", "upsample.2"] if scale == 4 else ["upsample.0"]
    return [*names, "conv_after_body", *steps, "conv_last"]


NAMES = {"official": official_names, "basicsr": basicsr_names}


def weights(naming: str = "official", *, scale: int = 2) -> Weights:
    """Random weights for maps of the size of the input on 0..255; the same for each naming."""
    generator = torch.Generator().manual_seed(scale)
    found: Weights = {}
    steps = [4 * WIDTH] * 2 if scale == 4 else [scale**2 * WIDTH]
    for name, other in zip(NAMES[naming](scale=scale), official_names(scale=scale), strict=True):
        out, of, size, spread = WIDTH, WIDTH, 3, 12.0
        if other.endswith("conv_du.0"):
            out, size = SQUEEZED, 1
        elif other.endswith("conv_du.2"):
            of, size, spread = SQUEEZED, 1, 0.5
        elif other == "head.0":
            of = 3
        elif other.startswith("tail.0."):
            out = steps.pop()
        elif other == "tail.1":
            out = 3
        deviation = (0.05 if size == 1 else 1) / math.sqrt(of * size**2)  # no sigmoid is flat
        weight = torch.randn(out, of, size, size, generator=generator) * deviation
        found[f"{name}.weight"] = weight
        found[f"{name}.bias"] = torch.randn(out, generator=generator) * spread
    if naming == "official":
        for name, sign in (("sub_mean", -1), ("add_mean", 1)):
            found[f"{name}.weight"] = torch.eye(3).view(3, 3, 1, 1)
            found[f"{name}.bias"] = sign * MEAN
    return found


def restated(found: Weights, x: Tensor, *, scale: int) -> Tensor:
    """The network layer by layer, colours on 0..255 in and out."""
    layers = iter([name for name in found if name.endswith(".weight") and "mean" not in name])

    def conv(maps: Tensor) -> Tensor:
        name = next(layers).removesuffix(".weight")
        weight, bias = found[f"{name}.weight"].double(), found[f"{name}.bias"].double()
        return F.conv2d(maps, weight, bias, padding=weight.shape[-1] // 2)

    mean = MEAN.double().view(1, 3, 1, 1)
    maps = head = conv(x - mean)
    for _ in range(GROUPS):
        start = maps
        for _ in range(BLOCKS):
            residual = conv(conv(maps).relu())
            gate = conv(conv(residual.mean((2, 3), keepdim=True)).relu()).sigmoid()
            maps = maps + residual * gate
        maps = start + conv(maps)
    maps = head + conv(maps)
    for factor in (2, 2) if scale == 4 else (scale,):
        maps = F.pixel_shuffle(conv(maps), factor)
    return conv(maps) + mean


@pytest.mark.parametrize("naming", NAMES)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_it_equals_the_network_on_0_to_255(
    saved: Callable[..., Path], scale: int, naming: str
) -> None:
    found = weights(naming, scale=scale)
    model = load_published(saved(found))
    assert isinstance(model, RCAN) and not model.training
    assert (model.scale, model.channels, len(model.groups)) == (scale, "rgb", GROUPS)
    lr = torch.rand(2, 3, 5, 6, generator=torch.Generator().manual_seed(9)).double()
    expected = restated(found, lr * 255, scale=scale)
    with torch.no_grad():
        sr = model.double()(lr)
    # the mean colour and the rescaled weights were rounded to float32
    torch.testing.assert_close(sr * 255, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))
    again = load_published(saved(found), scale=scale, kind="rcan").double()
    with torch.no_grad():
        assert torch.equal(again(lr), sr)


def test_attention_matters_in_that_comparison() -> None:
    found = weights()
    lr = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(9)).double() * 255
    plain = restated(found, lr, scale=2)
    for name in list(found):
        if name.endswith("conv_du.0.weight"):
            found[name] = found[name] / 255
    assert (restated(found, lr, scale=2) - plain).abs().max() > 1


def test_a_training_state_of_several_devices(saved: Callable[..., Path]) -> None:
    plain = load_published(saved(weights())).state_dict()
    wrapped = {"params": {f"module.{k}": v for k, v in weights("basicsr").items()}}
    again = load_published(saved(wrapped, name="state.pth")).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in plain.items())


def test_an_edsr_is_still_one(saved: Callable[..., Path]) -> None:
    found = {n: t for n, t in weights().items() if not n.startswith("body.")}
    found["head.0.weight"] = torch.zeros(64, 3, 3, 3)
    for name, out, of in [("tail.0.0", 256, 64), ("tail.1", 3, 64), ("body.1", 64, 64)]:
        found |= {f"{name}.weight": torch.zeros(out, of, 3, 3), f"{name}.bias": torch.zeros(out)}
    for name in ("body.0.body.0", "body.0.body.2"):
        found |= {f"{name}.weight": torch.zeros(64, 64, 3, 3), f"{name}.bias": torch.zeros(64)}
    found["head.0.bias"] = torch.zeros(64)
    assert isinstance(load_published(saved(found)), EDSR)


@pytest.mark.parametrize(
    ("naming", "name", "shape", "sentence"),
    [
        ("official", "body.2", None, r"missing body\.2\.bias, body\.2\.weight; unknown none"),
        ("official", "body.1.body.3", None, r"missing body\.1\.body\.3\.bias"),
        (
            "official",
            "body.1.body.2.body.3.conv_du.2",
            None,
            r"missing body\.1\.body\.2\.body\.3\.conv_du\.2\.bias",
        ),
        ("official", "add_mean", None, r"missing add_mean\.bias, add_mean\.weight"),
        ("official", "tail.0.0", None, r"looks like RCAN, but lacks tail\.0\.0\.weight"),
        ("official", "tail.1.weight", (3,), r"tail\.1\.weight is \(3,\), no convolution"),
        ("official", "extra.weight", (1,), r"missing none; unknown extra\.weight"),
        ("official", "sub_mean.bias", (3,), "has another sub_mean .* than the shift"),
        ("basicsr", "conv_after_body", None, r"missing conv_after_body\.bias"),
        ("basicsr", "body.1.conv", None, r"missing body\.1\.conv\.bias, body\.1\.conv\.weight"),
        (
            "basicsr",
            "conv_first.weight",
            (8, 1, 3, 3),
            r"conv_first\.weight is \(8, 1, 3, 3\), but RCAN needs \(8, 3, 3, 3\)",
        ),
        (
            "basicsr",
            "body.0.residual_group.0.rcab.3.attention.1.weight",
            (0, 8, 1, 1),
            r"attention\.1\.weight is \(0, 8, 1, 1\), no convolution",
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


def test_another_scale_is_refused(saved: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match="a network for scale 2, not 3"):
        load_published(saved(weights()), scale=3)
