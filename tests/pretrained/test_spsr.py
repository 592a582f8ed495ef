"""SPSR weights under the names of spsr.pth, restated here."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from edgekeeper.errors import CheckpointError
from edgekeeper.models import SPSR
from edgekeeper.pretrained.published import load_published

Weights = dict[str, Tensor]
BLOCKS = 20  # the fewest with which the paper's taps exist


def dense(theirs: str, ours: str) -> dict[str, str]:
    """Ours -> theirs of the 15 convolutions of an RRDB block."""
    return {
        f"{ours}.dense.{j}.convs.{k}": f"{theirs}.RDB{j + 1}.conv{k + 1}.0"
        for j, k in itertools.product(range(3), range(5))
    }


def layers(*, scale: int) -> dict[str, str]:
    """Ours -> theirs, with the numbers of x4 or of one enlargement."""
    ups, refine = ((3, 6), 8) if scale == 4 else ((3,), 5)
    b_ups, b_refine, b_finish = ((1, 4), 6, 8) if scale == 4 else ((1,), 3, 5)
    found = {"sr.head": "model.0", "sr.after_blocks": f"model.1.sub.{BLOCKS}"}
    for i in range(BLOCKS):
        found |= dense(f"model.1.sub.{i}", f"sr.blocks.{i}")
    found |= {f"sr.enlarge.convs.{n}": f"model.{index}" for n, index in enumerate(ups)}
    found |= {"sr.refine": f"model.{refine}", "sr.finish": "HR_conv1_new.0"}
    found |= {"gradient.head": "b_fea_conv.0", "gradient.after_blocks": "b_LR_conv.0"}
    for t in range(4):
        found |= dense(f"b_block_{t + 1}", f"gradient.blocks.{t}")
        found[f"gradient.narrow.{t}"] = f"b_concat_{t + 1}.0"
    found |= {f"gradient.enlarge.convs.{n}": f"b_module.{index}" for n, index in enumerate(b_ups)}
    found |= {"gradient.refine": f"b_module.{b_refine}", "gradient.finish": f"b_module.{b_finish}"}
    found |= {"gradient.last": "conv_w.0", **dense("f_block", "fusion.block")}
    found |= {"fusion.narrow": "f_concat.0", "fusion.refine": "f_HR_conv0.0"}
    return found | {"fusion.last": "f_HR_conv1.0"}


def network(scale: int) -> SPSR:
    torch.manual_seed(scale)
    return SPSR(scale=scale, width=4, growth=2, blocks=BLOCKS)


def published(model: SPSR) -> Weights:
    """The weights as the published file holds them."""
    own, found = model.state_dict(), {}
    for ours, theirs in layers(scale=model.scale).items():
        for part in ("weight", "bias"):
            found[f"{theirs}.{part}"] = own.pop(f"{ours}.{part}").clone()
    assert not own
    refine = "model.8" if model.scale == 4 else "model.5"
    for part in ("weight", "bias"):
        found[f"HR_conv0_new.0.{part}"] = found[f"{refine}.{part}"].clone()
    across = torch.tensor([[0.0, 0, 0], [-1, 0, 1], [0, 0, 0]])
    found["get_g_nopadding.weight_h"] = across[None, None]
    found["get_g_nopadding.weight_v"] = across.T[None, None]
    return found


@pytest.mark.parametrize(("scale", "asked"), [(4, None), (2, None), (3, 3)])
def test_the_published_names_give_the_network(
    saved: Callable[..., Path], scale: int, asked: int | None
) -> None:
    model = network(scale)
    again = load_published(saved(published(model)), scale=asked)
    assert isinstance(again, SPSR) and again.scale == scale and again.taps == (5, 10, 15, 20)
    lr = torch.rand(1, 3, 4, 5)
    with torch.no_grad():
        assert torch.equal(again(lr), model(lr))
        assert torch.equal(again.with_gradient(lr).gradient, model.with_gradient(lr).gradient)


def test_either_name_of_the_layer_with_two_will_do(saved: Callable[..., Path]) -> None:
    model = network(4)
    for dropped in ("model.8", "HR_conv0_new.0"):
        found = {k: v for k, v in published(model).items() if not k.startswith(dropped)}
        again = load_published(saved(found), scale=4, kind="spsr").state_dict()
        assert all(torch.equal(again[n], tensor) for n, tensor in model.state_dict().items())


def test_without_the_constant_kernels_too(saved: Callable[..., Path]) -> None:
    found = {k: v for k, v in published(network(4)).items() if not k.startswith("get_g")}
    assert load_published(saved(found)).scale == 4


Change = Callable[[Weights], object]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda w: w.pop("f_concat.0.bias"), r"missing f_concat\.0\.bias; unknown none"),
        (lambda w: w.pop("model.6.weight"), r"missing model\.6\.weight; unknown none"),
        (lambda w: w.pop("b_block_3.RDB2.conv5.0.bias"), r"missing b_block_3\.RDB2\.conv5"),
        (lambda w: w.update({"b_concat_5.0.bias": torch.zeros(4)}), r"unknown b_concat_5\.0\.bias"),
        (
            lambda w: w.update({"b_LR_conv.0.bias": torch.zeros(5)}),
            r"gradient|b_LR_conv\.0\.bias is \(5,\), but SPSR needs \(4,\)",
        ),
        (lambda w: w["model.8.bias"].add_(1), r"model\.8\.bias and .*bias differ, but are one"),
        (
            lambda w: w["get_g_nopadding.weight_h"].neg_(),
            r"weight_h is \[.*\], not the difference of the two neighbours",
        ),
        (
            lambda w: [w.pop(k) for k in list(w) if k.startswith("model.1.sub.19.")],
            "SPSR of 19 blocks; its gradient branch is known to read after blocks 5, 10, 15, 20",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    saved: Callable[..., Path], change: Change, sentence: str
) -> None:
    found = published(network(4))
    change(found)
    with pytest.raises(CheckpointError, match=sentence):
        load_published(saved(found))


def test_another_factor_is_refused(saved: Callable[..., Path]) -> None:
    found = published(network(4))
    with pytest.raises(CheckpointError, match="for scale 4, not 2"):
        load_published(saved(found), scale=2)
    for part in ("weight", "bias"):
        found[f"model.11.{part}"] = found.pop(f"model.8.{part}")
    with pytest.raises(CheckpointError, match="an SPSR that enlarges by 8"):
        load_published(saved(found))
