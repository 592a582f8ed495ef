"""Networks filled with weights that other programs published: keys renamed, ranges rescaled.

Nothing in a file is ever run: PyTorch files are read with ``weights_only=True``, MATLAB files by
the small reader at the end. The formats and what was measured with them: docs/models.md.
"""

import pickle
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from edgekeeper.errors import CheckpointError, nearest_name, unknown_name
from edgekeeper.models import EDSR, ESPCN, VDSR, SRModel
from edgekeeper.models.edsr import DIV2K_MEAN
from edgekeeper.models.vdsr import DEPTH

Kind = Literal["vdsr", "vdsr_pytorch", "espcn_ycbcr", "edsr"]
Tensors = Mapping[str, Tensor]

# JPEG's full-range Y, Cb, Cr (JFIF 1.02) of R, G, B in [0, 1]; Cb and Cr are moved up by 128/255.
_JPEG = (
    (0.299, 0.587, 0.114),
    (-0.16874, -0.33126, 0.5),
    (0.5, -0.41869, -0.08131),
)
_JPEG_OFFSET = (0.0, 128 / 255, 128 / 255)
_PARTS = ("weight", "bias")
RESIDUAL_SCALES = {64: 1.0, 256: 0.1}  # the published EDSRs by width


def load_published(
    path: str | Path, *, scale: int, kind: Kind | Literal["auto"] = "auto"
) -> SRModel:
    """The network in a file of published weights, float32 on the CPU, in evaluation mode.

    ``kind`` is told from the names in the file when it is "auto":

    ``"vdsr"``          ``VDSR_Official.mat`` (matconvnet); one network for x2, x3 and x4, on luma.
    ``"vdsr_pytorch"``  keys ``input``, ``residual_layer.i.conv``, ``output``, without biases.
    ``"espcn_ycbcr"``   keys ``conv_1`` to ``conv_3``; works on JPEG's YCbCr, takes and gives RGB.
    ``"edsr"``          the official EDSR, whose layers work on 0..255.

    Raises:
        CheckpointError: the file is missing or damaged, is for another scale, or has missing,
            unknown or misshapen entries, which are named.
        InputError: no such kind, or the network does not exist at this scale.
    """
    path = Path(path)
    if kind != "auto" and kind not in _LOADERS:
        raise unknown_name("kind of published weights", kind, known=["auto", *_LOADERS])
    if not path.is_file():
        raise CheckpointError(f"There is no file '{path}'.")
    tensors = _read_matlab(path) if path.suffix == ".mat" else _read_tensors(path)
    loader = _LOADERS[_recognise(tensors, origin=path) if kind == "auto" else kind]
    return loader(tensors, scale, path).eval()


def _recognise(tensors: Tensors, *, origin: Path) -> Kind:
    """The kind whose first layer is among the names."""
    marks: dict[str, Kind] = {
        "model.weight.0": "vdsr",
        "input.weight": "vdsr_pytorch",
        "conv_1.weight": "espcn_ycbcr",
        "head.0.weight": "edsr",
    }
    for mark, kind in marks.items():
        if mark in tensors:
            return kind
    raise CheckpointError(
        f"'{origin}' holds no known network: none of {', '.join(marks)} is among its names "
        f"({_some(sorted(tensors))})."
    )


def _vdsr(tensors: Tensors, scale: int, origin: Path) -> SRModel:
    """The official VDSR, whose layers have biases."""
    model = VDSR(scale=scale, variant="y", bias="all")
    names = {}
    for index, layer in enumerate([*(f"hidden.{i}" for i in range(DEPTH - 1)), "last"]):
        names[f"model.weight.{index}"] = f"{layer}.weight"
        names[f"model.bias.{index}"] = f"{layer}.bias"
    adapted = {}
    for name, tensor in tensors.items():  # kernels: height, width, in, out; biases: out, 1
        kernel = tensor.unsqueeze(-1) if tensor.ndim == 3 else tensor  # MATLAB drops a last 1
        adapted[name] = kernel.permute(3, 2, 0, 1) if kernel.ndim == 4 else kernel.flatten()
    _fill(model, adapted, names=names, origin=origin)
    return model


def _vdsr_pytorch(tensors: Tensors, scale: int, origin: Path) -> SRModel:
    """VDSR without biases; the colours in and out say which variant."""
    names = {f"residual_layer.{i}.conv.weight": f"hidden.{i + 1}.weight" for i in range(DEPTH - 2)}
    names |= {"input.weight": "hidden.0.weight", "output.weight": "last.weight"}
    _check_names(tensors, names, origin=origin)
    variants: dict[tuple[int, int], Literal["y", "gv", "rgb"]]
    variants = {(1, 1): "y", (3, 1): "gv", (3, 3): "rgb"}
    colours = (tensors["input.weight"].shape[1], tensors["output.weight"].shape[0])
    if colours not in variants:
        raise CheckpointError(
            f"'{origin}' is a VDSR with {colours[0]} channels in and {colours[1]} out; "
            "edgekeeper has 1 and 1, 3 and 1, 3 and 3."
        )
    variant = variants[colours]
    interpolation: Literal["bilinear", "bicubic"] = "bilinear" if variant == "gv" else "bicubic"
    model = VDSR(scale=scale, variant=variant, interpolation=interpolation)
    _fill(model, tensors, names=names, origin=origin)
    return model


class YCbCrESPCN(SRModel):
    """An ESPCN on the three channels of JPEG's YCbCr, which takes and gives RGB.

    The colour conversion stays a step of its own: folded into the first convolution it would
    pad the border with another colour than the published network does.
    """

    matrix: Tensor
    inverse: Tensor
    offset: Tensor

    def __init__(self, *, scale: int) -> None:
        super().__init__()
        self.network = ESPCN(scale=scale, channels="rgb")
        self.scale, self.channels = scale, "rgb"
        self.receptive_field = self.network.receptive_field
        matrix = torch.tensor(_JPEG, dtype=torch.float64).view(3, 3, 1, 1)
        inverse = torch.linalg.inv(matrix.squeeze()).view_as(matrix)
        offset = torch.tensor(_JPEG_OFFSET).view(1, 3, 1, 1)
        self.register_buffer("matrix", matrix.float(), persistent=False)
        self.register_buffer("inverse", inverse.float(), persistent=False)
        self.register_buffer("offset", offset, persistent=False)

    def features(self, lr: Tensor) -> Tensor:
        """The 32 feature maps (B, 32, H, W) of the RGB batch (B, 3, H, W)."""
        return self.network.features(_mix(lr, self.matrix) + self.offset)

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        """The RGB batch (B, 3, scale·H, scale·W)."""
        return _mix(self.network.reconstruct(features, lr) - self.offset, self.inverse)


def _mix(x: Tensor, matrix: Tensor) -> Tensor:
    """The colours (B, 3, H, W) times ``matrix`` (3, 3, 1, 1), in the precision of ``x``."""
    return (x.unsqueeze(1) * matrix).sum(dim=2)


def _espcn_ycbcr(tensors: Tensors, scale: int, origin: Path) -> SRModel:
    """The ESPCN of github.com/Nhat-Thanh/ESPCN-Pytorch (MIT)."""
    model = YCbCrESPCN(scale=scale)
    names = {f"conv_{i}.{part}": f"network.conv{i}.{part}" for i in (1, 2, 3) for part in _PARTS}
    _check_names(tensors, names, origin=origin)
    _check_scale(scale, found=(tensors["conv_3.weight"].shape[0] / 3) ** 0.5, origin=origin)
    _fill(model, tensors, names=names, origin=origin)
    return model


def _edsr(tensors: Tensors, scale: int, origin: Path) -> SRModel:
    """The official EDSR. Its layers work on 0..255, ours on [0, 1].

    ReLU and sums follow a factor, so with all biases over 255 every map is the official one over
    255: the same network, and its weights stay as they were trained.
    """
    indices = [int(m[1]) for name in tensors if (m := re.match(r"body\.(\d+)\.body\.", name))]
    blocks = max(indices, default=-1) + 1
    width = tensors["head.0.weight"].shape[0] if "head.0.weight" in tensors else 64
    steps = {"tail.0.0": "upsampler.0"}
    if scale == 4:
        steps["tail.0.2"] = "upsampler.2"
    layers = {"head.0": "head", f"body.{blocks}": "after_blocks", **steps}
    layers["tail.1"] = f"upsampler.{2 * len(steps)}"
    for block in range(blocks):
        layers[f"body.{block}.body.0"] = f"blocks.{block}.conv1"
        layers[f"body.{block}.body.2"] = f"blocks.{block}.conv2"
    names = {f"{a}.{part}": f"{b}.{part}" for a, b in layers.items() for part in _PARTS}
    shifts = {f"{name}.{part}": "" for name in ("sub_mean", "add_mean") for part in _PARTS}
    first = tensors.get("tail.0.0.weight", torch.empty(0, 1))
    found = 4 if "tail.0.2.weight" in tensors else (len(first) / first.shape[1]) ** 0.5
    _check_scale(scale, found=found, origin=origin)
    _check_names(tensors, names | shifts, origin=origin)
    _check_mean(tensors, origin=origin)
    if width not in RESIDUAL_SCALES:
        raise CheckpointError(
            f"'{origin}' is an EDSR of width {width}; its residual scale is not in the file and "
            "known only for the published widths 64 and 256."
        )
    model = EDSR(scale=scale, width=width, blocks=blocks, residual_scale=RESIDUAL_SCALES[width])
    adapted = {
        name: tensor / 255 if name.endswith(".bias") else tensor
        for name, tensor in tensors.items()
        if name not in shifts
    }
    _fill(model, adapted, names=names, origin=origin)
    return model


def _check_mean(tensors: Tensors, *, origin: Path) -> None:
    """Raise CheckpointError unless the mean-shift layers are those of EDSR on 0..255."""
    mean = 255 * torch.tensor(DIV2K_MEAN)
    for name, sign in (("sub_mean", -1), ("add_mean", 1)):
        weight, bias = tensors[f"{name}.weight"].float(), tensors[f"{name}.bias"].float()
        if not (
            torch.equal(weight.reshape(-1), torch.eye(3).reshape(-1))
            and bias.shape == mean.shape
            and torch.allclose(bias, sign * mean, atol=1e-2)
        ):
            raise CheckpointError(
                f"'{origin}': {name} is not the official EDSR's shift by DIV2K's mean colour on "
                f"0..255 (bias {bias.tolist()}); edgekeeper's EDSR subtracts that mean."
            )


_LOADERS: dict[Kind, Callable[[Tensors, int, Path], SRModel]] = {
    "vdsr": _vdsr,
    "vdsr_pytorch": _vdsr_pytorch,
    "espcn_ycbcr": _espcn_ycbcr,
    "edsr": _edsr,
}


def _check_scale(scale: int, *, found: float, origin: Path) -> None:
    """Raise CheckpointError when the last layers are plainly those of another scale."""
    if found in (2, 3, 4) and found != scale:
        raise CheckpointError(f"'{origin}' is a network for scale {found:.0f}, not {scale}.")


def _check_names(tensors: Tensors, names: Mapping[str, str], *, origin: Path) -> None:
    """Raise CheckpointError that names what is missing and what is unknown in the file."""
    missing, unknown = sorted(names.keys() - tensors.keys()), sorted(tensors.keys() - names.keys())
    if missing or unknown:
        nearest = nearest_name(unknown[0], missing) if unknown else None
        hint = f" ('{unknown[0]}' is most like '{nearest}')" if nearest else ""
        raise CheckpointError(
            f"'{origin}' does not have the published names: missing {_some(missing)}; "
            f"unknown {_some(unknown)}{hint}."
        )


def _some(names: list[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:4]) or "none"
    return shown + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _fill(model: nn.Module, tensors: Tensors, *, names: Mapping[str, str], origin: Path) -> None:
    """Load ``tensors`` into ``model`` under its own names; every name and shape must fit."""
    _check_names(tensors, names, origin=origin)
    own = model.state_dict()
    for name, tensor in tensors.items():
        if tensor.shape != own[names[name]].shape:
            raise CheckpointError(
                f"'{origin}': {name} is {tuple(tensor.shape)}, but {type(model).__name__} needs "
                f"{tuple(own[names[name]].shape)}."
            )
    model.load_state_dict({names[name]: tensor.float() for name, tensor in tensors.items()})


# ---- files -------------------------------------------------------------------------------------


# Damaged bytes make PyTorch's unpickler raise nearly anything.
_UNREADABLE = (
    *(OSError, EOFError, RuntimeError, SafetensorError, pickle.UnpicklingError, ValueError),
    *(TypeError, LookupError, AttributeError, AssertionError, struct.error),
)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch or safetensors file by name; no code of the file is run."""
    try:
        if path.suffix == ".safetensors":
            return load_file(str(path))
        loaded: object = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise CheckpointError(
            f"'{path}' cannot be read as plain tensors. It is cut off, or it is a whole pickled "
            "program, which edgekeeper never runs; save its state_dict() alone and try again."
        ) from error
    for wrapper in ("state_dict", "model", "params"):  # training states hold the weights inside
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise CheckpointError(f"'{path}' does not hold a state dict of named tensors.")
    # nn.DataParallel puts "module." before each name
    return {str(name).removeprefix("module."): tensor for name, tensor in loaded.items()}


def _read_matlab(path: Path) -> dict[str, Tensor]:
    """The numeric arrays of a MAT file: ``a.b.0`` is the first cell of field b of variable a."""
    found: dict[str, Tensor] = {}
    for name, value in read_mat(path).items():
        _flatten(value, name=name, into=found)
    return found


MatValue = NDArray[np.generic] | list["MatValue"] | dict[str, "MatValue"]


def _flatten(value: MatValue, *, name: str, into: dict[str, Tensor]) -> None:
    if isinstance(value, np.ndarray):
        into[name] = torch.from_numpy(np.ascontiguousarray(value))
        return
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        _flatten(part, name=f"{name}.{key}", into=into)


# ---- MAT-files, level 5 ("MAT-File Format", The MathWorks) ---------------------------------------

_STORED = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8"}
_STORED |= {12: "<i8", 13: "<u8"}
_COMPRESSED, _CELL, _STRUCT, _DOUBLE, _SINGLE, _UINT64 = 15, 1, 2, 6, 7, 15


@dataclass(frozen=True)
class _Element:
    kind: int
    content: bytes


def read_mat(path: Path) -> dict[str, MatValue]:
    """The variables of a MATLAB level 5 file: arrays, cells as flat lists, 1 x 1 structs as dicts.

    Raises:
        CheckpointError: another format, a damaged file, or text, sparse or complex arrays.
    """
    data = path.read_bytes()
    if len(data) < 128 or data[126:128] != b"IM":
        raise CheckpointError(
            f"'{path}' is not a little-endian MATLAB level 5 file; save it with '-v7' in MATLAB."
        )
    found: dict[str, MatValue] = {}
    try:
        for element in _elements(data[128:]):
            parts = _elements(element.content)
            found[parts[2].content.decode("ascii")] = _value(parts)
    except (struct.error, zlib.error, ValueError, IndexError, KeyError) as error:
        raise CheckpointError(
            f"'{path}' is damaged or holds something else than numbers, cells and structs."
        ) from error
    return found


def _elements(data: bytes) -> list[_Element]:
    """The data elements that follow each other in ``data``, decompressed."""
    found, at = [], 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        start = at + 8
        if kind >> 16:  # small element: its size is in the upper half, its bytes follow at once
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
            at += 8
        elif kind == _COMPRESSED:  # the only kind without padding to 8 bytes
            at = start + size
        else:
            at = start + size + -size % 8
        if start + size > len(data):
            raise ValueError("an element is longer than the file")
        content = data[start : start + size]
        if kind == _COMPRESSED:
            found += _elements(zlib.decompress(content))
        else:
            found.append(_Element(kind, content))
    return found


def _numbers(element: _Element) -> NDArray[np.generic]:
    return np.frombuffer(element.content, dtype=_STORED[element.kind])


def _value(matrix: list[_Element]) -> MatValue:
    """The value of the miMATRIX element of these parts."""
    flags, dimensions, _, *parts = matrix
    flag = int(_numbers(flags)[0])
    kind, is_complex = flag & 0xFF, flag & 0x0800
    if kind == _CELL:
        return [_value(_elements(part.content)) for part in parts]
    if kind == _STRUCT:
        length, text = int(_numbers(parts[0])[0]), parts[1].content
        starts = range(0, len(text), length)
        fields = [text[i : i + length].split(b"\0")[0].decode("ascii") for i in starts]
        values = [_value(_elements(part.content)) for part in parts[2:]]
        return dict(zip(fields, values, strict=True))
    if is_complex or not _DOUBLE <= kind <= _UINT64:
        raise ValueError("text, sparse or complex numbers")
    # MATLAB stores whole numbers in fewer bytes, whatever their class
    numbers = _numbers(parts[0]).astype("f4" if kind == _SINGLE else "f8")
    return numbers.reshape([int(n) for n in _numbers(dimensions)], order="F")
