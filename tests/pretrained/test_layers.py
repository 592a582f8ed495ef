"""What is read off the names and shapes of layers."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from edgekeeper.errors import CheckpointError
from edgekeeper.pretrained.layers import channels, count_blocks, subpixel_layers, to_unit_range
from edgekeeper.pretrained.published import load_published

ORIGIN = Path("network.pth")


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (["body.0.conv1.weight", "body.0.conv1.bias", "body.2.conv1.weight"], 3),
        (["body.1.weight", "other.body.5.conv1.weight", "body.x.conv1.weight"], 0),
        (["body.9999999999999999.conv1.weight", "head.weight"], 2),
        ([], 0),
    ],
)
def test_blocks_are_counted_by_the_largest_number(names: list[str], count: int) -> None:
    tensors = dict.fromkeys(names, torch.zeros(1))
    assert count_blocks(tensors, pattern="body.{i}.conv{k}") == count


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("edsr", "body.{n}.body.0.weight"),
        ("imdn", "IMDB{n}.c1.weight"),
        ("msrresnet", "body.{n}.conv1.weight"),
        ("esrgan", "body.{n}.rdb1.conv1.weight"),
    ],
)
def test_an_absurd_number_of_blocks_is_refused_at_once(
    saved: Callable[..., Path], kind: str, name: str
) -> None:
    content = {name.format(n=10**12): torch.zeros(1, 1, 3, 3)}
    with pytest.raises(CheckpointError, match=r"lacks|missing"):
        load_published(saved(content), scale=2, kind=kind)  # type: ignore[arg-type]


def test_channels_are_out_and_in() -> None:
    tensors = {"a.weight": torch.zeros(5, 4, 3, 3), "b.weight": torch.zeros(5, 0, 3, 3)}
    assert channels(tensors, "a", network="N", origin=ORIGIN) == (5, 4)
    for name, sentence in (("b", r"b\.weight is \(5, 0, 3, 3\)"), ("c", r"N, but lacks c\.weight")):
        with pytest.raises(CheckpointError, match=sentence):
            channels(tensors, name, network="N", origin=ORIGIN)


@pytest.mark.parametrize(("scale", "steps"), [(2, [16]), (3, [36]), (4, [16, 16])])
def test_the_scale_of_a_tail(scale: int, steps: list[int]) -> None:
    tensors = {f"up.{n}.weight": torch.zeros(out, 4, 3, 3) for n, out in enumerate(steps)}
    tensors["end.weight"] = torch.zeros(3, 4, 3, 3)
    found, layers = subpixel_layers(
        tensors, steps=("up.0", "up.1"), last=("end", "end"), network="N", origin=ORIGIN
    )
    theirs = [*(f"up.{n}" for n in range(len(steps))), "end"]
    assert found == scale
    assert layers == {name: f"upsampler.{2 * n}" for n, name in enumerate(theirs)}


def test_a_range_is_in_the_biases_alone() -> None:
    tensors = {"a.weight": torch.ones(2), "a.bias": torch.ones(2)}
    found = to_unit_range(tensors, top=4)
    assert found["a.weight"].tolist() == [1, 1] and found["a.bias"].tolist() == [0.25, 0.25]
