"""Networks filled with weights that other programs published: keys renamed, ranges rescaled.

``read_weights`` gives the tensors of a file, ``PUBLISHED_FORMATS`` lists what they may be,
``layers`` puts them into the network.

Nothing in a file is ever run: PyTorch files are read with ``weights_only=True``, MATLAB files by a
small reader, HDF5 files by h5py, which follows no link to another file here. The formats and what
was measured with them: docs/models.md.
"""

import pickle
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from edgekeeper.errors import CheckpointError, InputError, check_choice, import_extra
from edgekeeper.metrics.matfile import MatValue, read_mat
from edgekeeper.models import SRModel
from edgekeeper.pretrained import edsr, esrgan, luma, srgan
from edgekeeper.pretrained.checkpoint import check_whole, is_safetensors, some_of
from edgekeeper.pretrained.layers import (
    PUBLISHED_SCALES,
    Plan,
    Published,
    PublishedFormat,
    Tensors,
    fill,
)
from edgekeeper.spec import Spec

# By kind; a file is taken for the first whose names it has.
PUBLISHED_FORMATS: dict[str, PublishedFormat] = {
    "sftgan": srgan.SFTGAN_FORMAT,
    "spsr": esrgan.SPSR_FORMAT,  # contains an RRDB
    "esrgan": esrgan.RRDB_FORMAT,
    "rcan": edsr.RCAN_FORMAT,  # EDSR begins as it does
    "rdn": edsr.RDN_FORMAT,
    "dbpn": edsr.DBPN_FORMAT,
    "edsr": edsr.OFFICIAL_EDSR,
    "vdsr": luma.OFFICIAL_VDSR,
    "vdsr_pytorch": luma.PYTORCH_VDSR,
    "srgan_keras": srgan.KERAS_SRGAN,
    "srgan": srgan.PYTORCH,
    "msrresnet": srgan.MSRRESNET,
    "imdn": edsr.IMDN_FORMAT,
    "srvgg": esrgan.COMPACT,
    "espcn_ycbcr": luma.YCBCR_ESPCN,
}

# ---- The tensors of a file by name; nothing in a file is ever run -------------------------------

HDF5_SUFFIXES = (".h5", ".hdf5")
_MOST_NAMES, _DEEPEST = 2**16, 50  # of an HDF5 file
_MOST_UNPACKED = 100  # bytes of arrays for each byte of an HDF5 file; weights hardly pack
# Damaged bytes make PyTorch's unpickler raise nearly anything.
_UNREADABLE = (
    *(OSError, EOFError, RuntimeError, SafetensorError, pickle.UnpicklingError, ValueError),
    *(TypeError, LookupError, AttributeError, AssertionError, struct.error),
    MemoryError,  # of a number of bytes that is not there
)
# Training states hold the weights inside; the running average before the weights themselves.
_WRAPPERS = (
    *("state_dict", "model_state_dict", "model", "params_ema", "params-ema", "g_ema", "ema"),
    *("params", "net_g", "netG", "generator", "weights"),
)
# What programs put before each name; of several networks in one file these are the generator.
_PREFIXES = (
    *("module.", "_orig_mod.", "params_ema.", "g_ema.", "net_g.", "netG.", "generator."),
    *("model.", "state_dict."),
)


class UnknownNetworkError(CheckpointError):
    """A file that can be read holds no network that is known here."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.pth``, ``.pt``, ``.safetensors``, ``.mat`` or ``.h5`` file, on the CPU.

    Training states are looked through (``state_dict``, ``params_ema``, ``net_g`` and so on), and
    the ``module.`` of ``nn.DataParallel`` is left out of the names. ``a.b.0`` is the first cell of
    field b of variable a of a MATLAB file, ``a/b`` the array b of group a of an HDF5 file.
    Raises CheckpointError.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no file '{path}'.")
    check_whole(path)
    if path.suffix.lower() == ".mat":
        found: dict[str, Tensor] = {}
        for name, value in read_mat(path).items():
            _flatten(value, name=name, into=found)
        return found
    if path.suffix.lower() in HDF5_SUFFIXES:
        return _read_hdf5(path)
    loaded = read_plain(path)
    while isinstance(loaded, dict):
        inner = [loaded[name] for name in _WRAPPERS if isinstance(loaded.get(name), dict)]
        if not inner:
            break
        loaded = inner[0]
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        held = f"a {type(loaded).__name__}"
        if isinstance(loaded, dict):
            held = f"the entries {some_of(sorted(map(str, loaded)))}"
        raise CheckpointError(
            f"'{path}' does not hold a state dict of named tensors, but {held}; save the network's "
            "state_dict() by itself."
        )
    return {str(name).removeprefix("module."): tensor for name, tensor in loaded.items()}


def read_plain(path: Path) -> object:
    """Return what the file holds, without running its code. Raises CheckpointError."""
    head = check_whole(path)
    try:
        if is_safetensors(head):
            return load_file(str(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        _check_room(loaded, path.stat().st_size)
        return loaded
    except _UNREADABLE as error:
        raise CheckpointError(
            f"'{path}' cannot be read as plain tensors. It is damaged, or it is a whole pickled "
            "program, which edgekeeper never runs; save its state_dict() alone and try again."
        ) from error


def _check_room(loaded: object, size: int) -> None:
    """Raise ValueError for tensors that are far larger than the file, or not dense."""
    waiting, left, seen = [loaded], 4 * size + 2**20, set[int]()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            left -= value.numel() * value.element_size()
            if left < 0 or value.layout is not torch.strided:
                raise ValueError("tensors far larger than the file")
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, dict) else value


def _read_hdf5(path: Path) -> dict[str, Tensor]:
    h5py = import_extra("h5py", extra="keras", what=f"The HDF5 file '{path}'")
    found: dict[str, Tensor] = {}
    left, names = _MOST_UNPACKED * path.stat().st_size + 2**20, _MOST_NAMES

    def take(name: str, item: object) -> None:
        nonlocal left, names
        names -= 1
        if names < 0 or name.count("/") > _DEEPEST:
            raise ValueError("it holds too many groups and arrays, or too deep in one another")
        if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "iuf":
            return  # a group, a text
        if item.external or item.is_virtual:
            raise ValueError(f"'{name}' lies in another file")
        left -= item.nbytes
        if left < 0:
            raise ValueError("its arrays are far larger than the file")
        array = item[()]
        found[name] = torch.from_numpy(np.asarray(array, array.dtype.newbyteorder("=")))

    try:
        with h5py.File(path, "r") as file:
            file.visititems(take)
    except (OSError, RuntimeError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"'{path}' is not a readable HDF5 file ({error}).") from error
    return found


def _flatten(value: MatValue, *, name: str, into: dict[str, Tensor]) -> None:
    if isinstance(value, np.ndarray):
        into[name] = torch.from_numpy(np.ascontiguousarray(value))
        return
    if isinstance(value, str):  # a remark, not weights
        return
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        _flatten(part, name=f"{name}.{key}", into=into)


def load_published(path: str | Path, *, scale: int | None = None, kind: str = "auto") -> SRModel:
    """Return the network in a file of published weights, float32 on the CPU, in evaluation mode.

    ``kind`` is one of ``PUBLISHED_FORMATS``, told from the names in the file when it is "auto".
    ``scale`` is needed only where names and shapes do not say it: for VDSR, which has one file for
    all, and for an ESRGAN or SPSR made for x3, which else is taken for x2. What is missing, unknown
    or misshapen is named. Raises CheckpointError, InputError: no such kind or scale.
    """
    if kind != "auto":
        check_choice("kind of published weights", kind, known=PUBLISHED_FORMATS)
    return fill(*_plan(Path(path), scale=scale, kind=kind))


def published_spec(path: str | Path, *, scale: int | None = None) -> Spec[SRModel]:
    """Return how to build the network of a file that ``load_published`` reads."""
    return _plan(Path(path), scale=scale)[1].spec


def _plan(path: Path, *, scale: int | None, kind: str = "auto") -> tuple[Published, Plan]:
    if scale not in (None, *PUBLISHED_SCALES, 8):
        raise InputError(f"Published weights have no scale {scale}; choose one of 2, 3, 4, 8.")
    tensors: Tensors = read_weights(path)
    found, tensors = (
        _recognise(tensors, path) if kind == "auto" else (PUBLISHED_FORMATS[kind], tensors)
    )
    file = Published(tensors, path, title=found.title, asked=scale)
    return file, found.read(file)


def _recognise(tensors: Tensors, path: Path) -> tuple[PublishedFormat, Tensors]:
    waiting, depth = [tensors], 3  # prefixes before prefixes
    for _ in range(depth):
        for one in waiting:
            for found in PUBLISHED_FORMATS.values():
                if found.recognises(one):
                    return found, one
        waiting = [inner for one in waiting for inner in _without_prefixes(one)]
    raise UnknownNetworkError(
        f"'{path}' holds no known network: its {len(tensors)} tensors ({some_of(sorted(tensors))}) "
        f"are not those of {', '.join(known.title for known in PUBLISHED_FORMATS.values())}. "
        "edgekeeper.pretrained.community reads many more architectures, with the extra 'community'."
    )


def _without_prefixes(tensors: Tensors) -> Iterator[Tensors]:
    for prefix in _PREFIXES:
        inner = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if inner:
            yield inner
