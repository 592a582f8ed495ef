"""Networks that know the files by which other runtimes than PyTorch run them faster.

The files of the networks that are used by default ship: ``weights/exported/NAME.onnx``, which
ONNX Runtime and OpenVINO read, and ``NAME.int8.onnx``. Those of others lie in the user's cache
once ``with_runtime`` has made them. A file that is of another network (its digest says so), or
that cannot be read, is passed over.
"""

import importlib.util
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from edgekeeper.errors import CheckpointError
from edgekeeper.files import sha256_of, user_cache
from edgekeeper.models import SFTGAN, SRModel
from edgekeeper.pretrained.exported import (
    EXPORTED_SUFFIXES,
    RUNTIMES,
    ExportedNetwork,
    Runtime,
    UsedPrecision,
    load_exported,
)

EXPORT_FORMAT = 3
"""Goes up when files of the same network change; those of before are then passed over."""

EXPORTS = Path(__file__).parent / "weights" / "exported"


@runtime_checkable
class Accelerable(Protocol):
    """A network that other runtimes may run as well."""

    def in_runtime(self, runtime: Runtime, *, precision: UsedPrecision) -> SRModel | None:
        """Return the network in another runtime; None where there is no such file or package."""


class Accelerated(SRModel):
    """The network ``model``, computed by PyTorch, whose file may have faster forms."""

    def __init__(self, model: SRModel, *, file: Path, threads: int | None = None) -> None:
        super().__init__()
        self.model, self._threads = model, threads
        self.scale, self.channels = model.scale, model.channels
        self.receptive_field, self.multiple = model.receptive_field, model.multiple
        self.border = model.border
        self._name, self._digest = file.stem, sha256_of(file)
        self.eval()  # or each image would have a copy, that opens its runtime anew
        self._opened: dict[tuple[Runtime, UsedPrecision], ExportedNetwork | None] = {}

    @property
    def overlap(self) -> int:
        """The context of a tile, in LR pixels."""
        return self.model.overlap

    def forward(self, lr: Tensor) -> Tensor:
        """Return the SR batch of PyTorch."""
        return self.model(lr)

    def in_runtime(self, runtime: Runtime, *, precision: UsedPrecision) -> ExportedNetwork | None:
        """Return the network in another runtime, opened once; None where that cannot be."""
        key = runtime, precision
        if key not in self._opened:
            self._opened[key] = self._open(runtime, precision)
        return self._opened[key]

    def _open(self, runtime: Runtime, precision: UsedPrecision) -> ExportedNetwork | None:
        if importlib.util.find_spec(RUNTIMES[runtime]) is None:
            return None
        kind = ".int8" if precision == "int8" else ""
        reduced: Literal["float32", "bfloat16"] = (
            "bfloat16" if precision == "bfloat16" else "float32"
        )
        for path in (
            EXPORTS / f"{self._name}{kind}.onnx",
            cached_export(self._digest, runtime=runtime, kind=kind),
        ):
            if path.is_file():
                try:
                    found = load_exported(
                        path, threads=self._threads, precision=reduced, runtime=runtime
                    )
                except CheckpointError:  # cut: what made it makes it anew
                    continue
                if is_export_of(found, self._digest):
                    return found
        return None


def accelerated(model: SRModel, *, file: Path, threads: int | None = None) -> SRModel:
    """Return the network with what may run it faster; itself where nothing could."""
    on_cpu = all(tensor.device.type == "cpu" for tensor in model.parameters())
    runtimes = any(importlib.util.find_spec(name) for name in RUNTIMES.values())
    if isinstance(model, SFTGAN | ExportedNetwork) or not on_cpu or not runtimes:
        return model
    return Accelerated(model, file=file, threads=threads)


def cached_export(digest: str, *, runtime: Runtime, kind: str = "") -> Path:
    """Return where the cache has the file for a runtime of the network with that digest."""
    suffix = next(suffix for suffix, name in EXPORTED_SUFFIXES.items() if name == runtime)
    return user_cache() / "exports" / f"{digest[:32]}-{EXPORT_FORMAT}{kind}{suffix}"


def is_export_of(exported: ExportedNetwork, digest: str) -> bool:
    """Return whether a file says that it was made, by code of today, of the network's file."""
    source = exported.facts.get("source")
    same = isinstance(source, dict) and source.get("sha256") == digest
    return same and exported.facts.get("format") == EXPORT_FORMAT
