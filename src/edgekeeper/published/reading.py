"""The tensors of a file by name; nothing in a file is ever run."""

import pickle
import struct
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from edgekeeper.errors import CheckpointError
from edgekeeper.matfile import MatValue, read_mat
from edgekeeper.published.hdf5 import read_hdf5

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
    """What a PyTorch or safetensors file holds, read without running code of the file.

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
