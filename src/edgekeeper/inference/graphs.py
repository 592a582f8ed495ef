"""A network's passes over tiles of one shape, recorded as a CUDA graph and replayed.

A small network is a hundred short kernels, and a GPU waits for the processor that names them one
by one; recorded they are one call. Not yet run on a GPU: tested with a recorder on the processor.
"""

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from edgekeeper.ops.tiles import is_out_of_memory

Pass = Callable[[Tensor], Tensor]

RECORDING = ("cuda",)  # kinds of devices on which tiles are recorded
MOST_SHAPES = 4  # that are recorded of an image: inside, at edges; the others come seldom

_LATELY = 2  # tiles of a shape before it is recorded: libraries have chosen, caches are full
_NEAR = 1 / 255  # what a replay may differ in a pixel; the kernels are the same


class Graphs:
    """Runs a network's pass; from the third tile of a shape on by a graph, where that is near."""

    def __init__(self) -> None:
        self._count: Counter[tuple[torch.Size, str]] = Counter()
        self._recorded: dict[tuple[torch.Size, str], _Recorded] = {}
        self._refused = False

    def __call__(self, function: Pass, lr: Tensor, *, precision: str) -> Tensor:
        """Return ``function(lr)``, in memory of its own; ``precision`` tells functions apart."""
        key = lr.shape, precision
        if key in self._recorded:
            return self._recorded[key](lr).clone()
        self._count[key] += 1
        sr = function(lr)
        late = self._count[key] > _LATELY and len(self._recorded) < MOST_SHAPES
        if late and not self._refused:
            try:
                recorded = _Recorded(function, lr)
                near = float((recorded(lr) - sr).abs().amax()) <= _NEAR
            except RuntimeError as error:  # what cannot be recorded is run as it is
                if is_out_of_memory(error):
                    raise
                near = False
            if near:
                self._recorded[key] = recorded
            self._refused = not near
        return sr


class _Recorded:
    """``function`` on tensors of one shape, as one call; the result is overwritten by the next."""

    def __init__(self, function: Pass, lr: Tensor) -> None:
        self._lr = lr.clone()
        stream, before = torch.cuda.Stream(lr.device), torch.cuda.current_stream(lr.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(before)
        with torch.cuda.stream(stream):
            function(self._lr)  # libraries make their workspaces for the stream
        before.wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may copy results meanwhile.
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._sr = function(self._lr)

    def __call__(self, lr: Tensor) -> Tensor:
        self._lr.copy_(lr)
        self._graph.replay()
        return self._sr
