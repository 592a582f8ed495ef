"""Leaves each block of a network out in turn, and keeps the network that misses its block least.

    python benchmarks/prune.py best_x4 --on photographs/ -o best_x4_pruned.safetensors

NETWORK is a name or file; its blocks are equal and lie under ``blocks.`` in the weights, as those
of ChainSR and EDSR do. The folder holds HR images that no network was trained on; LR is MATLAB's
bicubic, dB are under y_matlab. What comes out is a start for training
(`edgekeeper train RECIPE --start`), with the card of the network that it came from.
"""

import argparse
import statistics
from pathlib import Path

import torch
from torch import Tensor

from edgekeeper.data.degrade import make_lr
from edgekeeper.image import list_images, read_image, to_rgb_tensor
from edgekeeper.inference.network import infer
from edgekeeper.metrics import psnr
from edgekeeper.models import SRModel
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
    path = Path(given.network)
    file = read_network(path if path.is_file() else find(given.network))
    arguments = dict(file.spec.arguments)
    blocks = int(str(arguments["blocks"]))
    smaller = spec(file.spec.target, **{**arguments, "blocks": blocks - 1})
    scale = file.spec.build().scale
    images = [to_rgb_tensor(read_image(path)) for path in list_images(given.on)]
    pairs = [(make_lr(hr, scale=scale, kernel="matlab_uint8"), hr) for hr in images]
    found: dict[float, SRModel] = {}
    for block in range(blocks):
        model = smaller.build().eval()
        model.load_state_dict(without(file.tensors, block))
        results = ((infer(model, lr, layout="channels last"), hr) for lr, hr in pairs)
        quality = statistics.mean(
            float(psnr(sr, hr, protocol="y_matlab", scale=scale)) for sr, hr in results
        )
        found[quality] = model
        print(f"without block {block}: {quality:.3f} dB", flush=True)
    save_model(given.output, found[max(found)], spec=smaller, card=file.card)


if __name__ == "__main__":
    main()
