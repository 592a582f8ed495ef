"""Makes a start for training of a network that is trained: with a block less, or larger.

    python benchmarks/reshape.py best_x4 --on photographs/ -o best_x4_pruned.safetensors
    python benchmarks/reshape.py best_x4 --width 64 --blocks 16 -o best_x4_grown.safetensors

NETWORK is a name or file. With ``--on`` each block is left out in turn, and that stays out which
is missed least; the blocks lie under ``blocks.`` in the weights, as those of ChainSR and EDSR do.
The folder holds HR images that no network was trained on; LR is MATLAB's bicubic, dB are under
y_matlab. With ``--width`` and ``--blocks`` an EDSR grows and gives the same results as before
(after Net2Net, Chen et al., ICLR 2016, https://arxiv.org/abs/1511.05641): nothing old hears of
what is new. What comes out is for `edgekeeper train RECIPE --start`; its card says what was done.
"""

import argparse
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgekeeper.data.degrade import crop_to_multiple, make_lr
from edgekeeper.errors import EdgekeeperError, InputError
from edgekeeper.image import list_images, read_image, to_rgb_tensor
from edgekeeper.inference.network import infer
from edgekeeper.metrics import psnr
from edgekeeper.models import EDSR, SRModel
from edgekeeper.pretrained.cards import ancestor, gather_images
from edgekeeper.pretrained.checkpoint import NetworkFile, code_version, read_network, save_model
from edgekeeper.pretrained.zoo import find
from edgekeeper.spec import Spec, spec


def blocks_of(file: NetworkFile) -> int:
    """Return how many blocks a network has; InputError where that is no argument of its class."""
    blocks = dict(file.spec.arguments).get("blocks")
    if not isinstance(blocks, int) or blocks < 2:
        raise InputError("It has no blocks to leave out or to add to: take a ChainSR or an EDSR.")
    return blocks


def without(weights: Mapping[str, Tensor], block: int) -> dict[str, Tensor]:
    """Return the weights without those of one block; the blocks after it move up."""
    kept = {}
    for name, tensor in weights.items():
        parts = name.split(".")
        if parts[0] == "blocks":
            number = int(parts[1])
            if number == block:
                continue
            parts[1] = str(number - (number > block))
        kept[".".join(parts)] = tensor
    return kept


def pruned(file: NetworkFile, *, on: Path) -> tuple[SRModel, Spec[SRModel], str]:
    """Return the network without the block that it misses least, how it is built, what was done."""
    blocks = blocks_of(file)
    smaller = spec(file.spec.target, **{**dict(file.spec.arguments), "blocks": blocks - 1})
    scale = file.spec.build().scale
    hr_images = []
    for path in list_images(on):
        hr = crop_to_multiple(to_rgb_tensor(read_image(path)), scale)
        if min(hr.shape[-2:]) < 8 * scale:
            raise InputError(f"'{path}' is too small: sides of {8 * scale} or more are needed.")
        hr_images.append(hr)
    if not hr_images:
        raise InputError(f"'{on}' holds no images.")
    pairs = [(make_lr(hr, scale=scale, kernel="matlab_uint8"), hr) for hr in hr_images]
    found: dict[float, tuple[int, SRModel]] = {}
    for block in range(blocks):
        model = smaller.build().eval()
        model.load_state_dict(without(file.tensors, block))
        results = ((infer(model, lr, layout="channels last"), hr) for lr, hr in pairs)
        quality = statistics.mean(
            float(psnr(sr, hr, protocol="y_matlab", scale=scale)) for sr, hr in results
        )
        found[quality] = block, model
        print(f"without block {block}: {quality:.3f} dB", flush=True)
    least, model = found[max(found)]
    return model, smaller, f"without block {least} of {blocks}"


def grown(file: NetworkFile, *, width: int, blocks: int) -> tuple[SRModel, Spec[SRModel], str]:
    """Return the network with more maps and blocks, how it is built, and what was done.

    Old maps take nothing from new ones and new maps give nothing to the image, so that results
    are equal; new maps take from all, so that their weights have gradients after one update.
    """
    old, given = blocks_of(file), dict(file.spec.arguments)
    if file.spec.target is not EDSR or width < int(str(given["width"])) or blocks < old:
        raise InputError(f"Only an EDSR grows, to {given.get('width')} maps, {old} blocks or more.")
    larger = spec(file.spec.target, **{**given, "width": width, "blocks": blocks})
    torch.manual_seed(0)
    model = larger.build().eval()
    new = model.state_dict()
    places = {round(i * (blocks - 1) / (old - 1)): i for i in range(old)}  # spread evenly
    for name, tensor in new.items():
        parts = name.split(".")
        if parts[0] == "blocks" and int(parts[1]) not in places:
            if parts[2] == "conv2":  # a new block begins by adding nothing
                tensor.zero_()
            continue
        if parts[0] == "blocks":
            parts[1] = str(places[int(parts[1])])
        before = file.tensors[".".join(parts)]
        if parts[0] == "upsampler":
            tensor.zero_()
        tensor[: before.shape[0]] = 0
        tensor[tuple(slice(size) for size in before.shape)] = before
    return model, larger, f"grown to {width} maps, {blocks} blocks"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network")
    parser.add_argument("--on", type=Path)
    parser.add_argument("--width", type=int)
    parser.add_argument("--blocks", type=int)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    try:
        if given.output.exists() or given.output.suffix != ".safetensors":
            why = "exists" if given.output.exists() else "does not end in .safetensors"
            raise InputError(f"'{given.output}' {why}; give another name.")
        if given.on is not None and (given.width or given.blocks):
            raise InputError("--on prunes, --width and --blocks grow: give one of both.")
        path = find(given.network)
        file = read_network(path)
        if given.on is not None:
            model, built, done = pruned(file, on=given.on)
        elif given.width and given.blocks:
            model, built, done = grown(file, width=given.width, blocks=given.blocks)
        else:
            raise InputError("Give --on FOLDER, or --width and --blocks.")
        recipe: Any = file.card.get("recipe") or {}
        origin = {"recipe": recipe.get("name", "unknown"), **ancestor(path)}
        card = {"recipe": {"name": f"{path.stem} {done}"}, "steps": 0, "origin": origin}
        whole = gather_images(card | {"code": code_version()})
        save_model(given.output, model, spec=built, card=whole)
    except EdgekeeperError as error:
        sys.exit(f"Error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
