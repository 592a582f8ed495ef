"""Tiles on a GPU, as far as a processor shows it: graphs by shape, copies beside the network."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from edgekeeper.errors import InputError, UnavailableError
from edgekeeper.inference import graphs
from edgekeeper.inference.graphs import Graphs
from edgekeeper.inference.network import TileRunner, infer
from edgekeeper.inference.request import Request
from edgekeeper.inference.seams import verify_seams
from edgekeeper.models import ESPCN
from edgekeeper.ops import tiles
from edgekeeper.pretrained.exported import providers_for


class Graph(TorchDispatchMode):
    """A CUDA graph on the processor: operations on fixed tensors, to be done again."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[Any, ...]] = []
        self.replays = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.steps.append((func, args, kwargs or {}, found))
        return found

    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, found in self.steps:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(found), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Stream:
    """A stream that is always done."""

    waits = 0

    def wait_stream(self, other: "Stream") -> None:
        """Wait for no one."""

    def synchronize(self) -> None:
        Stream.waits += 1


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Graph]]:
    """The graphs that are made, on a processor that takes itself for a GPU."""
    made: list[Graph] = []

    @contextmanager
    def recording(graph: Graph, **given: Any) -> Iterator[None]:
        assert given["capture_error_mode"] == "thread_local"
        made.append(graph)
        with graph:
            yield

    def stream(*_: Any) -> Stream:
        return Stream()

    for name, value in (("CUDAGraph", Graph), ("graph", recording), ("Stream", stream)):
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.cuda, "current_stream", stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(graphs, "RECORDING", ("cpu",))
    tiles._copies.cache_clear()
    yield made
    tiles._copies.cache_clear()


def parts(*shape: int) -> list[Tensor]:
    return [torch.rand(shape, generator=torch.Generator().manual_seed(k)) for k in range(5)]


def test_a_graph_of_each_tile_size_gives_what_the_network_gives(recorder: list[Graph]) -> None:
    model = ESPCN(scale=2).eval()
    runner = TileRunner(model)
    given = [*parts(1, 3, 12, 16), *parts(1, 3, 9, 16)]
    results = [runner(part) for part in given]
    for part, result in zip(given, results, strict=True):
        torch.testing.assert_close(result, infer(model, part), atol=1e-6, rtol=0)
    # two as they are, a third that is recorded and proved, two replayed; of each size
    assert [graph.replays for graph in recorder] == [3, 3]


@pytest.mark.parametrize("wrong", ["raises", "differs"])
def test_what_cannot_be_recorded_is_run_as_it_is(recorder: list[Graph], wrong: str) -> None:
    calls: list[Tensor] = []

    def function(lr: Tensor) -> Tensor:
        if torch.utils._python_dispatch._get_current_dispatch_mode() is not None:
            if wrong == "raises":
                raise RuntimeError("operation not permitted when stream is capturing")
            return lr + 1
        calls.append(lr)
        return lr * 2

    run, given = Graphs(), parts(1, 3, 4, 4)
    for part in given:
        torch.testing.assert_close(run(function, part, precision="float32"), part * 2)
    assert len(recorder) == 1  # and is not tried again
    assert len(calls) == len(given) + 1


def test_memory_that_runs_out_in_a_recording_is_told(recorder: list[Graph]) -> None:
    def function(lr: Tensor) -> Tensor:
        if torch.utils._python_dispatch._get_current_dispatch_mode() is not None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return lr

    run, given = Graphs(), parts(1, 3, 4, 4)
    with pytest.raises(torch.OutOfMemoryError):
        for part in given:
            run(function, part, precision="float32")


def test_tiles_are_copied_beside_the_network(
    recorder: list[Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "COPYING", ("cpu",))
    Stream.waits = 0
    lr = parts(1, 3, 40, 40)[0]
    found = verify_seams(ESPCN(scale=2), lr, request=Request(tile=20, runtime="torch"))
    assert found.levels < 0.01
    assert Stream.waits > 9  # the whole and each of its tiles
    assert recorder and all(graph.replays for graph in recorder)


def test_onnx_runtime_takes_tensorrt_where_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def there(*names: str) -> Callable[[], list[str]]:
        return lambda: [f"{name}ExecutionProvider" for name in names]

    assert providers_for("cpu") == ["CPUExecutionProvider"]
    with pytest.raises(InputError, match="cuda:one"):
        providers_for("cuda:one")
    monkeypatch.setattr(onnxruntime, "get_available_providers", there("CPU"))
    with pytest.raises(UnavailableError, match="onnxruntime-gpu"):
        providers_for("cuda")
    monkeypatch.setattr(onnxruntime, "get_available_providers", there("CUDA", "CPU"))
    wanted = [("CUDAExecutionProvider", {"device_id": 1}), "CPUExecutionProvider"]
    assert providers_for("cuda:1") == wanted
    monkeypatch.setattr(onnxruntime, "get_available_providers", there("Tensorrt", "CUDA", "CPU"))
    first, *rest = providers_for("cuda:1")
    assert rest == wanted
    assert first[0] == "TensorrtExecutionProvider"
    assert first[1]["device_id"] == 1 and first[1]["trt_engine_cache_enable"]
