"""Real-ESRGAN's compact networks: the published names, and what the files are known to give."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import edgekeeper
from edgekeeper.data.degrade import degrade_known, find_known
from edgekeeper.data.pairs import load_pairs
from edgekeeper.errors import CheckpointError
from edgekeeper.inference.network import infer
from edgekeeper.metrics import psnr
from edgekeeper.metrics.perceptual import lpips
from edgekeeper.models import SRVGGNetCompact
from edgekeeper.pretrained import zoo
from edgekeeper.pretrained.published import load_published

Weights = dict[str, Tensor]
WIDTH, CONVOLUTIONS = 6, 3


def weights(scale: int) -> Weights:
    """Random weights under Real-ESRGAN's names: convolutions even, PReLUs odd."""
    generator = torch.Generator().manual_seed(scale)
    found: Weights = {}
    last = 2 * (CONVOLUTIONS + 1)
    for n in range(0, last + 1, 2):
        out, into = 3 * scale**2 if n == last else WIDTH, WIDTH if n else 3
        found[f"body.{n}.weight"] = torch.randn(out, into, 3, 3, generator=generator) / 7
        found[f"body.{n}.bias"] = torch.randn(out, generator=generator) / 5
        if n < last:
            found[f"body.{n + 1}.weight"] = torch.rand(WIDTH, generator=generator)
    return found


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("wrapper", [None, "params", "params_ema"])
def test_the_published_names_give_the_network(
    saved: Callable[..., Path], wrapper: str | None, scale: int
) -> None:
    found = weights(scale)
    model = load_published(saved({wrapper: found} if wrapper else found))
    assert isinstance(model, SRVGGNetCompact) and not model.training
    assert (model.scale, model.receptive_field) == (scale, CONVOLUTIONS + 2)
    state = model.state_dict()
    assert state.keys() == found.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in found.items())


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    found = {name: tensor.half() for name, tensor in weights(4).items()}
    save_file(found, tmp_path / "compact.safetensors")
    model = edgekeeper.load(tmp_path / "compact.safetensors")
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    assert model(torch.rand(1, 3, 4, 5)).shape == (1, 3, 16, 20)


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        ("body.2.bias", None, r"missing body\.2\.bias; unknown none"),
        ("body.3.weight", (1,), r"body\.3\.weight is \(1,\), but SRVGGNetCompact needs \(6,\)"),
        ("extra", (1,), r"missing none; unknown extra"),
        ("body.9.weight", (6,), r"body\.9\.weight is \(6,\), no convolution"),
        ("body.0.weight", (6,), r"body\.0\.weight is \(6,\), no convolution"),
    ],
)
def test_what_does_not_fit_is_named(
    refuses: Callable[..., None], name: str, shape: tuple[int, ...] | None, sentence: str
) -> None:
    refuses(weights(2), name=name, shape=shape, sentence=sentence)


def test_another_scale_than_the_file_s_is_refused(saved: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match="a network for scale 2, not 4"):
        load_published(saved(weights(2)), scale=4, kind="srvgg")


@pytest.mark.data
@pytest.mark.slow
# Measured by others on these 11 images: 23.98 and 23.56 dB, LPIPS .494 and .361.
@pytest.mark.parametrize(
    ("name", "decibels", "distance"),
    [("realesr_general_x4v3", 23.98, 0.494), ("realesr_general_wdn_x4v3", 23.56, 0.361)],
)
def test_the_published_files_give_what_they_are_known_for(
    data_root: Path, name: str, decibels: float, distance: float
) -> None:
    model = zoo.load(data_root / "weights" / f"{name}.safetensors")
    values = []
    for pair in load_pairs("bsd100", scale=4, root=data_root)[::9][:11]:
        sr = infer(model, degrade_known(pair.hr(), find_known("camera")))
        found = psnr(sr, pair.hr(), protocol="rgb_matlab", scale=4), lpips(sr, pair.hr())
        values.append([float(value) for value in found])
    means = torch.tensor(values).mean(dim=0)
    assert float(means[0]) == pytest.approx(decibels, abs=0.03)  # another draw of the noise
    assert float(means[1]) == pytest.approx(distance, abs=0.003)
