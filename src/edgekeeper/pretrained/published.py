"""Networks filled with weights that other programs published: keys renamed, ranges rescaled.

One file per origin, each with what tells its tensors (``recognises``) and what makes a network of
them (``load``). What they share: ``read_weights`` gives the tensors of a file (``hdf5`` reads
Keras's), and ``layers`` says what names and shapes tell and puts the tensors into the network.

Nothing in a file is ever run: PyTorch files are read with ``weights_only=True``, MATLAB and HDF5
files by small readers. The formats and what was measured with them: docs/models.md.
"""

import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from edgekeeper.errors import CheckpointError, InputError, unknown_name
from edgekeeper.metrics.matfile import MatValue, read_mat
from edgekeeper.models import SRModel
from edgekeeper.pretrained import (
    dbpn,
    edsr,
    espcn,
    esrgan,
    imdn,
    rcan,
    rdn,
    sftgan,
    spsr,
    srgan,
    srvgg,
    vdsr,
)
from edgekeeper.pretrained.edsr import RESIDUAL_SCALES
from edgekeeper.pretrained.espcn import YCbCrESPCN
from edgekeeper.pretrained.hdf5 import read_hdf5
from edgekeeper.pretrained.layers import SCALES, Tensors, some

__all__ = [
    "RESIDUAL_SCALES",
    "Kind",
    "MatValue",
    "Tensors",
    "YCbCrESPCN",
    "load_foreign",
    "load_published",
    "read_mat",
]

# ---- The tensors of a file by name; nothing in a file is ever run -------------------------------

HDF5_SUFFIXES = (".h5", ".hdf5")
# Damaged bytes make PyTorch's unpickler raise nearly anything.
_UNREADABLE = (
    *(OSError, EOFError, RuntimeError, SafetensorError, pickle.UnpicklingError, ValueError),
    *(TypeError, LookupError, AttributeError, AssertionError, struct.error),
)
# Training states hold the weights inside; the running average before the weights themselves.
_WRAPPERS = ("state_dict", "model", "params_ema", "params")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.pth``, ``.pt``, ``.safetensors``, ``.mat`` or ``.h5`` file, on the CPU.

    Training states are looked through (``state_dict``, ``model``, ``params_ema``, ``params``), and
    so is the ``module.`` that ``nn.DataParallel`` puts before each name. ``a.b.0`` is the first
    cell of field b of variable a of a MATLAB file, ``a/b`` the array b of group a of an HDF5 file.

    Raises:
        CheckpointError: no such file, a damaged one, or one that holds something else.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no file '{path}'.")
    if path.suffix == ".mat":
        found: dict[str, Tensor] = {}
        for name, value in read_mat(path).items():
            _flatten(value, name=name, into=found)
        return found
    if path.suffix.lower() in HDF5_SUFFIXES:
        return {name: torch.from_numpy(array) for name, array in read_hdf5(path).items()}
    loaded = read_plain(path)
    for wrapper in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise CheckpointError(f"'{path}' does not hold a state dict of named tensors.")
    return {str(name).removeprefix("module."): tensor for name, tensor in loaded.items()}


def read_plain(path: Path) -> object:
    """Return what a PyTorch or safetensors file holds, read without running code of the file.

    Raises:
        CheckpointError: the file is damaged, or cannot be read without running its code.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(str(path))
        return torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise CheckpointError(
            f"'{path}' cannot be read as plain tensors. It is cut off, or it is a whole pickled "
            "program, which edgekeeper never runs; save its state_dict() alone and try again."
        ) from error


def _flatten(value: MatValue, *, name: str, into: dict[str, Tensor]) -> None:
    if isinstance(value, np.ndarray):
        into[name] = torch.from_numpy(np.ascontiguousarray(value))
        return
    if isinstance(value, str):  # a remark, not weights
        return
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        _flatten(part, name=f"{name}.{key}", into=into)


Kind = Literal[
    "vdsr",
    "vdsr_pytorch",
    "espcn_ycbcr",
    "edsr",
    "esrgan",
    "spsr",
    "sftgan",
    "rcan",
    "rdn",
    "dbpn",
    "srgan_keras",
    "srgan",
    "msrresnet",
    "imdn",
    "srvgg",
]


class _Loader(Protocol):
    def __call__(self, tensors: Tensors, *, scale: int | None, origin: Path) -> SRModel: ...


@dataclass(frozen=True)
class _Origin:
    title: str
    recognises: Callable[[Tensors], bool]
    load: _Loader


_ORIGINS: dict[Kind, _Origin] = {
    "sftgan": _Origin("SFTGAN", sftgan.recognises, sftgan.load),
    "spsr": _Origin("SPSR", spsr.recognises, spsr.load),
    "esrgan": _Origin("ESRGAN and Real-ESRGAN (RRDB)", esrgan.recognises, esrgan.load),
    "rcan": _Origin("RCAN", rcan.recognises, rcan.load),  # EDSR begins as it does
    "rdn": _Origin("RDN", rdn.recognises, rdn.load),
    "dbpn": _Origin("D-DBPN", dbpn.recognises, dbpn.load),
    "edsr": _Origin("the official EDSR", edsr.recognises, edsr.load),
    "vdsr": _Origin("VDSR_Official.mat", vdsr.recognises_official, vdsr.load_official),
    "vdsr_pytorch": _Origin("VDSR in PyTorch", vdsr.recognises_pytorch, vdsr.load_pytorch),
    "srgan_keras": _Origin("SRGAN in Keras", srgan.recognises_keras, srgan.load_keras),
    "srgan": _Origin("SRGAN in PyTorch", srgan.recognises_pytorch, srgan.load_pytorch),
    "msrresnet": _Origin("MSRResNet", srgan.recognises_msrresnet, srgan.load_msrresnet),
    "imdn": _Origin("IMDN", imdn.recognises, imdn.load),
    "srvgg": _Origin("Real-ESRGAN's SRVGGNetCompact", srvgg.recognises, srvgg.load),
    "espcn_ycbcr": _Origin("ESPCN on YCbCr", espcn.recognises, espcn.load),
}


def load_published(
    path: str | Path, *, scale: int, kind: Kind | Literal["auto"] = "auto"
) -> SRModel:
    """Return the network in a file of published weights, float32 on the CPU, in evaluation mode.

    ``kind`` is told from the names in the file when it is "auto":

    ``"vdsr"``          ``VDSR_Official.mat`` (matconvnet); one network for x2, x3 and x4, on luma.
    ``"vdsr_pytorch"``  keys ``input``, ``residual_layer.i.conv``, ``output``, without biases.
    ``"espcn_ycbcr"``   keys ``conv_1`` to ``conv_3``; works on JPEG's YCbCr, takes and gives RGB.
    ``"edsr"``          the official EDSR, whose layers work on 0..255.
    ``"esrgan"``        RRDB networks of ESRGAN, Real-ESRGAN and BasicSR, under any of their names.
    ``"spsr"``          ``spsr.pth``.
    ``"srgan_keras"``   SRGAN's generator in Keras (``.h5``), x4.
    ``"srgan"``         SRGAN's generator in PyTorch, five blocks, keys ``block1`` to ``block8``.
    ``"msrresnet"``     BasicSR's SRResNet, with or without SRGAN's training.
    ``"imdn"``          the official IMDN.
    ``"srvgg"``         Real-ESRGAN's compact networks (``SRVGGNetCompact``), keys ``body.N``.
    ``"rcan"``          the official RCAN and BasicSR's, whose layers work on 0..255.
    ``"rdn"``           RDN as EDSR-PyTorch (on 0..255) or RDN-pytorch (on 0..1) names it.
    ``"dbpn"``          the official D-DBPN and DBPN-LL.
    ``"sftgan"``        SFTGAN's generator, in the form of the paper (Torch) or of BasicSR.

    Raises:
        CheckpointError: the file is missing or damaged, is for another scale, or has missing,
            unknown or misshapen entries, which are named.
        InputError: no such kind, or the network does not exist at this scale.
    """
    path = Path(path)
    if kind != "auto" and kind not in _ORIGINS:
        raise unknown_name("kind of published weights", kind, known=["auto", *_ORIGINS])
    _check_asked(scale)
    tensors = read_weights(path)
    origin = _recognise(tensors, origin=path) if kind == "auto" else _ORIGINS[kind]
    return origin.load(tensors, scale=scale, origin=path).eval()


def load_foreign(path: str | Path, *, scale: int | None = None) -> SRModel:
    """The network in any file of weights that is known, float32 on the CPU, in evaluation mode.

    Which network, how large and for which scale is told from the names and shapes in the file;
    ``scale`` is needed only where these do not say it: for VDSR, which has one file for all
    scales, and for an ESRGAN or SPSR made for x3, which else is taken for x2.

    Raises:
        CheckpointError: the file is missing or damaged, holds no network that is known (and then
            says what it holds), is for another scale, or lacks entries, which are named.
        InputError: ``scale`` is none of 2, 3, 4, 8.
    """
    path = Path(path)
    if scale is not None:
        _check_asked(scale)
    tensors = read_weights(path)
    return _recognise(tensors, origin=path).load(tensors, scale=scale, origin=path).eval()


def _check_asked(scale: int) -> None:
    if scale not in (*SCALES, 8):
        raise InputError(f"Published weights have no scale {scale}; choose one of 2, 3, 4, 8.")


def _recognise(tensors: Tensors, *, origin: Path) -> _Origin:
    """Return where the tensors are from, by their names."""
    for found in _ORIGINS.values():
        if found.recognises(tensors):
            return found
    titles = ", ".join(known.title for known in _ORIGINS.values())
    raise CheckpointError(
        f"'{origin}' holds no known network: its {len(tensors)} tensors "
        f"({some(sorted(tensors))}) are not those of {titles}. "
        "edgekeeper.pretrained.community reads many more architectures, with the extra 'community'."
    )
