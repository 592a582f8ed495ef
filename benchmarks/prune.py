"""Leaves each block of a network out in turn, and keeps the network that misses its block least.

    python benchmarks/prune.py best_x4 --on photographs/ -o best_x4_pruned.safetensors

NETWORK is a name or file; its blocks are equal and lie under ``blocks.`` in the weights, as those
of ChainSR and EDSR do. The folder holds HR images that no network was trained on; LR is MATLAB's
bicubic, dB are under y_matlab. What comes out is a start for training
(`edgekeeper train RECIPE --start`); its card says whose block was left out.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgekeeper.data.degrade import crop_to_multiple, make_lr
from edgekeeper.errors import EdgekeeperError, InputError
from edgekeeper.image import list_images, read_image, to_rgb_tensor
from edgekeeper.inference.network import infer
from edgekeeper.metrics import psnr
from edgekeeper.models import SRModel
from edgekeeper.pretrained.cards import ancestor
from edgekeeper.pretrained.checkpoint import read_network, save_model
from edgekeeper.pretrained.zoo import find
from edgekeeper.spec import spec


def without(weights: dict[str, Tensor], block: int) -> dict[str, Tensor]:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network")
    parser.add_argument("--on", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    try:
        prune(given.network, on=given.on, output=given.output)
    except EdgekeeperError as error:
        sys.exit(f"Error: {error}")


def prune(network: str, *, on: Path, output: Path) -> None:
    """Write ``output``; raise EdgekeeperError where that is not possible."""
    if output.exists():
        raise InputError(f"'{output}' exists; give another name.")
    path = find(network)
    file = read_network(path)
    arguments = dict(file.spec.arguments)
    if "blocks" not in arguments or int(str(arguments["blocks"])) < 2:
        raise InputError(f"{network} has no blocks to leave out: take a ChainSR or an EDSR.")
    blocks = int(str(arguments["blocks"]))
    smaller = spec(file.spec.target, **{**arguments, "blocks": blocks - 1})
    scale = file.spec.build().scale
    read = [to_rgb_tensor(read_image(path)) for path in list_images(on)]
    if not read:
        raise InputError(f"'{on}' holds no images.")
    images = [crop_to_multiple(image, scale) for image in read]
    pairs = [(make_lr(hr, scale=scale, kernel="matlab_uint8"), hr) for hr in images]
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
    given: Any = file.card.get("recipe") or {}
    origin = {"recipe": given.get("name", "unknown"), **ancestor(path)}
    done = {"name": f"{path.stem} without block {least} of {blocks}"}
    save_model(output, model, spec=smaller, card={"recipe": done, "steps": 0, "origin": origin})


if __name__ == "__main__":
    main()
