"""ESRGAN's generator (RRDB), Real-ESRGAN's compact network, and SPSR, which contains an RRDB.

RRDB under the three sets of names it is published with:

    old      model.0, model.1.sub.0.RDB1.conv1.0, ...    ESRGAN's first code, most community files
    new      conv_first, RRDB_trunk.0.RDB1.conv1, ...    ESRGAN's later code
    BasicSR  conv_first, body.0.rdb1.conv1, ...          BasicSR and Real-ESRGAN

Real-ESRGAN's x2 shows by 12 channels in. A network with one enlargement is x2 unless x3 is asked
for: the file does not tell them apart.

SPSR (``spsr.pth``): the SR branch has the old names; ``model.8`` and ``HR_conv0_new.0`` are one
layer under two names. The gradient branch begins with ``b_`` (``conv_w.0`` predicts the map), the
fusion with ``f_``; ``get_g_nopadding`` is the constant kernel of the differences. After which
blocks the branch reads is not in the file: 5, 10, 15 and 20, as in the paper.
"""

import re
from typing import Literal

import torch

from edgekeeper.errors import CheckpointError
from edgekeeper.models import RRDB, SPSR, SRVGGNetCompact
from edgekeeper.pretrained.layers import LAYERS, Plan, Published, PublishedFormat
from edgekeeper.spec import spec

TAPS = (5, 10, 15, 20)
_OLD_BLOCK = "model.1.sub.{i}.RDB{j+1}.conv{k+1}.0"
_BLOCKS = (_OLD_BLOCK, "RRDB_trunk.{i}.RDB{j+1}.conv{k+1}", "body.{i}.rdb{j+1}.conv{k+1}")
_UNSHUFFLES: dict[int, Literal[1, 2]] = {3: 1, 12: 2}  # by channels in
# What the kernels of SPSR's code hold: neighbours right minus left, below minus above.
_KERNELS = {
    "get_g_nopadding.weight_h": (0, 0, 0, -1, 0, 1, 0, 0, 0),
    "get_g_nopadding.weight_v": (0, -1, 0, 0, 0, 0, 0, 1, 0),
}


def read_rrdb(file: Published) -> Plan:
    """Return the plan of an RRDB network."""
    block = next((b for b in _BLOCKS if file.count(b.partition("{j")[0])), _OLD_BLOCK)
    blocks = file.count(block.partition("{j")[0])
    if block == _OLD_BLOCK:
        # Enlargement n is conv 3n, the convs after the last are 2 and 4 further.
        times = -(-(_last_number(file, default=10) - 4) // 3)
        layers = {
            "head": "model.0",
            "after_blocks": f"model.1.sub.{blocks}",
            "enlarge.convs.{n}": "model.{3*n+3}",
            "refine": f"model.{3 * times + 2}",
            "last": f"model.{3 * times + 4}",
        }
    else:
        layers = LAYERS["rrdb_new" if block.startswith("RRDB") else "rrdb_basicsr"]
        step = layers["enlarge.convs.{n}"].partition("{")[0]
        times = max(1, sum(f"{step}{n}.weight" in file.tensors for n in (1, 2, 3)))
    width, colours = file.channels(layers["head"])
    growth, _ = file.channels(re.sub(r"\{.(\+1)?\}", lambda hole: "1" if hole[1] else "0", block))
    if colours not in _UNSHUFFLES:
        raise file.error(f"is an RRDB with {colours} channels in; edgekeeper's takes RGB.")
    unshuffle = _UNSHUFFLES[colours]
    factor = 2**times / unshuffle
    if factor not in (2, 4):
        raise file.error(f"is an RRDB that enlarges by {factor:g}; edgekeeper has 2, 3 and 4.")
    if file.asked == 3 and times == 1:
        factor = 3
    network = spec(
        RRDB,
        scale=file.scale(factor),
        width=width,
        blocks=blocks,
        growth=growth,
        unshuffle=unshuffle,
    )
    return Plan(network, layers | {"blocks.{i}.dense.{j}.convs.{k}": block})


def _last_number(file: Published, *, default: int) -> int:
    """Return the largest n of all ``model.n.weight`` and ``model.n.bias``."""
    found = (re.fullmatch(r"model\.(\d+)\.(weight|bias)", name) for name in file.tensors)
    return max((int(match[1]) for match in found if match), default=default)


def read_compact(file: Published) -> Plan:
    """Return the plan of an SRVGGNetCompact, whose names body.0, body.1, ... are ours too."""
    last = file.count("body.{i}.") - 1
    width, _ = file.channels("body.0")
    colours, _ = file.channels(f"body.{last}")  # 3 · scale²
    # convolutions have the even numbers, PReLUs the odd ones
    network = spec(
        SRVGGNetCompact,
        scale=file.scale((colours / 3) ** 0.5),
        width=width,
        convolutions=max(1, last // 2 - 1),
    )
    return Plan(network, {"body.{i}": "body.{i}"})


def read_spsr(file: Published) -> Plan:
    """Return the plan of an SPSR."""
    # model.8 of x4, model.5 of x2 and x3 is the last numbered layer.
    times = -(-(_last_number(file, default=8) - 2) // 3)
    if times not in (1, 2):
        raise file.error(f"is an SPSR that enlarges by {2**times}; edgekeeper has 2, 3 and 4.")
    blocks = file.count("model.1.sub.{i}.RDB")
    if blocks < TAPS[-1]:
        raise file.error(
            f"is an SPSR of {blocks} blocks; its gradient branch is known to read "
            f"after blocks {', '.join(map(str, TAPS))}, so that it has {TAPS[-1]} or more."
        )
    (width, _), (growth, _) = file.channels("model.0"), file.channels("f_block.RDB1.conv1.0")
    network = spec(
        SPSR,
        scale=file.scale(3 if (file.asked, times) == (3, 1) else 2**times),
        width=width,
        blocks=blocks,
        growth=growth,
        taps=TAPS,
    )
    first, second = f"model.{3 * times + 2}", "HR_conv0_new.0"
    repeats = _check_repeats(file, first=first, second=second)
    layers = LAYERS["spsr"] | {
        "sr.after_blocks": f"model.1.sub.{blocks}",
        "sr.refine": second if f"{second}.weight" in file.tensors else first,
        "gradient.refine": f"b_module.{3 * times}",
        "gradient.finish": f"b_module.{3 * times + 2}",
    }
    if layers["sr.refine"] == first:
        repeats = frozenset()
    return Plan(network, layers, ignored=repeats | _KERNELS.keys())


def _check_repeats(file: Published, *, first: str, second: str) -> frozenset[str]:
    """Return the tensors of the layer ``first``, which must be those of ``second``."""
    for part in ("weight", "bias"):
        one, other = (file.tensors.get(f"{layer}.{part}") for layer in (first, second))
        if one is not None and other is not None and not torch.equal(one, other):
            raise CheckpointError(
                f"'{file.origin}': {first}.{part} and {second}.{part} differ, but are one layer "
                "of SPSR."
            )
    for name, kernel in _KERNELS.items():
        found = file.tensors.get(name)
        if found is not None and found.flatten().tolist() != list(kernel):
            raise CheckpointError(
                f"'{file.origin}': {name} is {found.flatten().tolist()}, "
                "not the difference of the two neighbours."
            )
    return frozenset({f"{first}.weight", f"{first}.bias"})


RRDB_FORMAT = PublishedFormat(
    "ESRGAN's and Real-ESRGAN's RRDB",
    (r"model\.1\.sub\.\d+\.RDB\d|RRDB_trunk\.\d+\.RDB\d|body\.\d+\.rdb\d",),
    read_rrdb,
)
SPSR_FORMAT = PublishedFormat("SPSR", (r"f_block\.|b_fea_conv\.",), read_spsr)
COMPACT = PublishedFormat("Real-ESRGAN's SRVGGNetCompact", (r"body\.0\.weight",), read_compact)
