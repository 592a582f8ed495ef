"""RDN weights under both published namings, against the network restated in float64."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from edgekeeper.errors import CheckpointError
from edgekeeper.models import RDN
from edgekeeper.pretrained.published import load_published

Weights = dict[str, Tensor]
WIDTH, GROWTH, BLOCKS, LAYERS = 6, 5, 3, 2


def edsr_pytorch_names(*, scale: int) -> list[str]:
    """The layers in the order they run, as the code built on EDSR's names them."""
    names = ["SFENet1", "SFENet2"]
    for b in range(BLOCKS):
        names += [f"RDBs.{b}.convs.{k}.conv.0" for k in range(LAYERS)] + [f"RDBs.{b}.LFF"]
    return [
        *names,
        "GFF.0",
        "GFF.1",
        *(f"UPNet.{n}" for n in ((0, 2, 4) if scale == 4 else (0, 2))),
    ]


def rdn_pytorch_names(*, scale: int) -> list[str]:
    """The same layers, as RDN-pytorch names them."""
    names = ["sfe1", "sfe2"]
    for b in range(BLOCKS):
        names += [f"rdbs.{b}.layers.{k}.conv" for k in range(LAYERS)] + [f"rdbs.{b}.lff"]
    steps = ["upscale.0", "upscale.2"] if scale == 4 else ["upscale.0"]
    return [*names, "gff.0", "gff.1", *steps, "output"]


NAMES = {"edsr_pytorch": edsr_pytorch_names, "rdn_pytorch": rdn_pytorch_names}
RANGES = {"edsr_pytorch": 255.0, "rdn_pytorch": 1.0}


def weights(naming: str = "edsr_pytorch", *, scale: int = 2) -> Weights:
    """Random weights in the order the layers run; biases of the size of the range."""
    generator = torch.Generator().manual_seed(scale)
    block = [(GROWTH, WIDTH + k * GROWTH, 3) for k in range(LAYERS)]
    block.append((WIDTH, WIDTH + LAYERS * GROWTH, 1))
    shapes = [(WIDTH, 3, 3), (WIDTH, WIDTH, 3), *block * BLOCKS]
    shapes += [(WIDTH, BLOCKS * WIDTH, 1), (WIDTH, WIDTH, 3)]
    shapes += [(GROWTH * (4 if scale == 4 else scale**2), WIDTH, 3)]
    shapes += [(GROWTH * 4, GROWTH, 3)] * (scale == 4) + [(3, GROWTH, 3)]
    found: Weights = {}
    for name, (out, of, size) in zip(NAMES[naming](scale=scale), shapes, strict=True):
        deviation = 1 / math.sqrt(of * size**2)
        weight = torch.randn(out, of, size, size, generator=generator) * deviation
        found[f"{name}.weight"] = weight
        found[f"{name}.bias"] = torch.randn(out, generator=generator) * 0.1 * RANGES[naming]
    return found


def restated(found: Weights, x: Tensor, *, scale: int) -> Tensor:
    """The network layer by layer in the order of the file, on the range it works on."""
    layers = iter([name.removesuffix(".weight") for name in found if name.endswith(".weight")])

    def conv(maps: Tensor) -> Tensor:
        name = next(layers)
        weight, bias = found[f"{name}.weight"].double(), found[f"{name}.bias"].double()
        return F.conv2d(maps, weight, bias, padding=weight.shape[-1] // 2)

    shallow = conv(x)
    maps = conv(shallow)
    kept = []
    for _ in range(BLOCKS):
        seen = maps
        for _ in range(LAYERS):
            seen = torch.cat([seen, conv(seen).relu()], dim=1)
        maps = maps + conv(seen)
        kept.append(maps)
    maps = shallow + conv(conv(torch.cat(kept, dim=1)))
    for factor in (2, 2) if scale == 4 else (scale,):
        maps = F.pixel_shuffle(conv(maps), factor)
    return conv(maps)


@pytest.mark.parametrize("naming", NAMES)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_it_equals_the_published_network(
    saved: Callable[..., Path], scale: int, naming: str
) -> None:
    found, top = weights(naming, scale=scale), RANGES[naming]
    model = load_published(saved(found))
    assert isinstance(model, RDN) and not model.training
    assert (model.scale, model.channels, len(model.blocks)) == (scale, "rgb", BLOCKS)
    lr = torch.rand(2, 3, 5, 6, generator=torch.Generator().manual_seed(9)).double()
    expected = restated(found, lr * top, scale=scale) / top
    with torch.no_grad():
        sr = model.double()(lr)
    # biases over 255 were rounded to float32
    torch.testing.assert_close(sr, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))
    again = load_published(saved(found), scale=scale, kind="rdn").double()
    with torch.no_grad():
        assert torch.equal(again(lr), sr)


@pytest.mark.parametrize(
    ("naming", "name", "shape", "sentence"),
    [
        ("edsr_pytorch", "SFENet2", None, r"missing SFENet2\.bias, SFENet2\.weight; unknown"),
        ("edsr_pytorch", "RDBs.1.LFF", None, r"missing RDBs\.1\.LFF\.bias"),
        ("edsr_pytorch", "RDBs.2.convs.1.conv.0", None, r"missing RDBs\.2\.convs\.1\.conv\.0"),
        ("edsr_pytorch", "GFF.1", None, r"missing GFF\.1\.bias, GFF\.1\.weight"),
        ("edsr_pytorch", "UPNet.2", None, r"looks like RDN, but lacks UPNet\.2\.weight"),
        ("edsr_pytorch", "extra.weight", (1,), r"missing none; unknown extra\.weight"),
        ("rdn_pytorch", "sfe1", None, r"missing sfe1\.bias, sfe1\.weight; unknown none"),
        ("rdn_pytorch", "upscale.0", None, r"lacks upscale\.0\.weight"),
        ("rdn_pytorch", "output.weight", (3,), r"output\.weight is \(3,\), no convolution"),
        (
            "rdn_pytorch",
            "rdbs.1.lff.weight",
            (6, 6, 1, 1),
            r"rdbs\.1\.lff\.weight is \(6, 6, 1, 1\), but RDN needs \(6, 16, 1, 1\)",
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
    with pytest.raises(CheckpointError, match="a network for scale 4, not 2"):
        load_published(saved(weights(scale=4)), scale=2)
