"""Starts made of trained networks: a block left out, and grown with equal results."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from edgekeeper.models import EDSR, ChainSR, SRModel
from edgekeeper.pretrained.cards import training_lines
from edgekeeper.pretrained.checkpoint import load_model, read_network, save_model
from edgekeeper.spec import Spec, spec

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks/reshape.py"


def network(path: Path, described: Spec[SRModel]) -> SRModel:
    torch.manual_seed(1)
    model = described.build().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_model(path, model, spec=described, card={"recipe": {"name": "r"}, "parameters": 7})
    return model


def reshape(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_a_grown_network_gives_the_same_and_all_of_it_learns(tmp_path: Path) -> None:
    small, large = tmp_path / "small.safetensors", tmp_path / "large.safetensors"
    described = spec(EDSR, scale=2, width=4, blocks=2, upsampler="direct", skip="bicubic")
    before = network(small, described)
    done = reshape(small, "--width", "7", "--blocks", "4", "-o", large)
    assert not done.returncode, done.stderr
    after = load_model(large)
    assert isinstance(after, EDSR) and len(after.blocks) == 4
    lr = torch.rand(1, 3, 9, 8)
    assert torch.equal(after(lr), before(lr))
    optimizer = torch.optim.SGD(after.parameters(), lr=0.1)
    for _ in range(3):  # the first moves what reads the new maps, the next what makes them
        optimizer.zero_grad()
        (after(lr) - 1).square().mean().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().sum() for p in after.parameters())
    assert next(training_lines(read_network(large).card)).startswith("  recipe small grown to 7")

    for arguments, why in (
        ((small, "--width", "3", "--blocks", "2"), "Only an EDSR grows, to 4 maps, 2 blocks"),
        ((small,), "Give --on FOLDER, or --width and --blocks"),
        ((small, "--on", tmp_path, "--width", "8", "--blocks", "3"), "give one of both"),
        ((small, "--on", tmp_path), "holds no images"),
        (("espcn_x4", "--on", tmp_path), "take a ChainSR or an EDSR"),
        (("espcn_x5", "--on", tmp_path), "There is no network 'espcn_x5'"),
    ):
        done = reshape(*arguments, "-o", tmp_path / "no.safetensors")
        assert done.returncode == 1 and why in done.stderr and "Traceback" not in done.stderr


def test_the_block_that_adds_nothing_is_left_out(tmp_path: Path) -> None:
    file, out = tmp_path / "chain.safetensors", tmp_path / "out.safetensors"
    described = spec(ChainSR, scale=2, width=4, blocks=4, depth=2)
    model = network(file, described)
    assert isinstance(model, ChainSR)
    torch.nn.init.zeros_(model.blocks[1].convolutions[-1].weight)  # type: ignore[arg-type, union-attr]
    torch.nn.init.zeros_(model.blocks[1].convolutions[-1].bias)  # type: ignore[arg-type, union-attr]
    save_model(file, model, spec=described, card={"recipe": {"name": "r"}, "results": [1]})
    pixels = np.random.default_rng(0).integers(0, 256, (33, 29, 3), dtype=np.uint8)  # odd sides
    (tmp_path / "images").mkdir()
    Image.fromarray(pixels).save(tmp_path / "images" / "a.png")
    done = reshape(file, "--on", tmp_path / "images", "-o", out)
    assert not done.returncode and "without block 3: " in done.stdout, done.stderr
    kept = load_model(out)
    assert isinstance(kept, ChainSR) and len(kept.blocks) == 3
    card = read_network(out).card
    assert "results" not in card and card["recipe"]["name"].startswith("chain without block")  # type: ignore[index]
    Image.fromarray(pixels[:15]).save(tmp_path / "images" / "b.png")
    for target, why in (("no", "does not end in"), ("no.safetensors", "b.png' is too small")):
        done = reshape(file, "--on", tmp_path / "images", "-o", tmp_path / target)
        assert done.returncode == 1 and why in done.stderr
    again = reshape(file, "--on", tmp_path / "images", "-o", out)
    assert again.returncode == 1 and "exists; give another name" in again.stderr
