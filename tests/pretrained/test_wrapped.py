"""Weights as programs save them: wrapped, prefixed, misnamed, cut; each is loaded or named."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgekeeper.errors import CheckpointError, EdgekeeperError
from edgekeeper.models import RRDB
from edgekeeper.pretrained.zoo import load


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """A tiny RRDB by Real-ESRGAN's names."""
    torch.manual_seed(0)
    shapes = {"conv_first": (4, 3), "conv_body": (4, 4), "conv_up1": (4, 4), "conv_up2": (4, 4)}
    shapes |= {"conv_hr": (4, 4), "conv_last": (3, 4)}
    for dense in (1, 2, 3):
        for number in range(1, 6):
            out = 4 if number == 5 else 2
            shapes[f"body.0.rdb{dense}.conv{number}"] = (out, 4 + 2 * (number - 1))
    found = {}
    for name, (out, into) in shapes.items():
        found[f"{name}.weight"] = torch.randn(out, into, 3, 3)
        found[f"{name}.bias"] = torch.randn(out)
    return found


def prefixed(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def test_wrapped_and_prefixed_weights_are_understood(tmp_path: Path, state) -> None:
    wanted = state["conv_first.weight"]
    other = {"discriminator.conv.weight": torch.zeros(1, 1, 3, 3)}
    wrappers = (
        "net_g g_ema model_state_dict params-ema generator netG ema weights params params_ema"
    )
    forms = {f"in {name}": {name: state, "iter": 7} for name in wrappers.split()}
    forms |= {
        f"after {prefix}": prefixed(state, prefix)
        for prefix in ("_orig_mod.", "module.", "net_g.", "generator.", "model.", "params_ema.")
    }
    forms |= {
        "twice": prefixed(state, "_orig_mod.module."),
        "lightning": {"state_dict": prefixed(state, "model.") | other, "epoch": 1},
        "several": {"net_g": prefixed(state, "module."), "net_d": other},
        "nested": {"model": {"params_ema": state}},
        "beside": prefixed(state, "generator.") | other,
    }
    for name, form in forms.items():
        torch.save(form, tmp_path / "w.pth")
        model = load(tmp_path / "w.pth")
        assert isinstance(model, RRDB), name
        assert any(torch.equal(p, wanted) for p in model.parameters()), name


def test_what_a_file_is_stands_in_it_and_not_in_its_name(tmp_path: Path, state) -> None:
    for name in ("a.SAFETENSORS", "b.pth", "c.ckpt", "d"):
        save_file(state, tmp_path / name)
        assert isinstance(load(tmp_path / name), RRDB), name
    for name in ("e.safetensors", "f.PTH", "g.bin"):
        torch.save(state, tmp_path / name)
    assert isinstance(load(tmp_path / "f.PTH"), RRDB)
    assert isinstance(load(tmp_path / "g.bin"), RRDB)


def test_what_is_wrong_is_named_and_no_extra_is_asked_for(tmp_path: Path, state) -> None:
    torch.save(state, tmp_path / "whole.pth")
    save_file(state, tmp_path / "whole.safetensors")
    pth, safe = ((tmp_path / f"whole.{s}").read_bytes() for s in ("pth", "safetensors"))
    lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 67040989\n"
    missing = {k: v for k, v in state.items() if k != "conv_hr.weight"}
    misshapen = {**state, "conv_hr.weight": torch.zeros(4, 5, 3, 3)}
    cases: list[tuple[bytes | dict, str]] = [
        (pth[: len(pth) // 2], "cut off"),
        (pth[:-100], "cut off"),
        (safe[: len(safe) // 2], "cut off|incomplete|not a readable|cannot be read"),
        (safe[:20], "cut off"),
        (lfs, "Git LFS"),
        (b"\n<!DOCTYPE html><html><title>404</title>", "web page"),
        (b"<html>rate limit</html>", "web page"),
        (b"", "empty"),
        (b"nothing at all", "plain tensors|safetensors"),
        (missing, "conv_hr.weight"),
        (misshapen, r"conv_hr|\(4, 5, 3, 3\)"),
        ({"epoch": 3, "names": ["a"]}, "the entries epoch, names"),
        ([1, 2], "a list"),
    ]
    for content, words in cases:
        for name in ("w.pth", "w.safetensors"):
            path = tmp_path / name
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif name == "w.safetensors":
                continue
            else:
                torch.save(content, path)
            with pytest.raises(CheckpointError, match=words) as found:
                load(path)
            assert "spandrel" not in str(found.value), (words, name)


def test_a_network_that_nobody_knows_is_one_for_the_extra(tmp_path: Path) -> None:
    torch.save({"some.layer.weight": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(EdgekeeperError, match=r"holds no known network|no network that spandrel"):
        load(tmp_path / "w.pth")


def test_deep_json_is_a_sentence(tmp_path: Path) -> None:
    text = b'{"a":' * 100_000
    (tmp_path / "w.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(CheckpointError):
        load(tmp_path / "w.safetensors")
