"""Exported networks, run by ONNX Runtime or OpenVINO, as networks like any other.

``load_exported(path)`` gives an ``SRModel`` whose ``forward`` calls the runtime, so that
upscaling, tiles and evaluation need not know. What a file says of itself (scale, colour,
receptive field, card) stands in its metadata under ``edgekeeper``.
"""

import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekeeper.errors import CheckpointError, InputError, UnavailableError
from edgekeeper.files import parse_json, user_cache
from edgekeeper.models import SRModel

Runtime = Literal["onnx", "openvino"]
ExportPrecision = Literal["float32", "bfloat16"]
UsedPrecision = Literal["float32", "bfloat16", "int8"]
Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]

EXPORTED_KEY = "edgekeeper"  # the entry of a file's metadata that holds the facts as JSON
RUNTIMES: dict[Runtime, str] = {"onnx": "onnxruntime", "openvino": "openvino"}
EXPORTED_SUFFIXES: dict[str, Runtime] = {".onnx": "onnx", ".xml": "openvino"}


_LARGEST = 10_000  # of what a file says of scale and context, in pixels


class ExportedNetwork(SRModel):
    """A network in a file of another program's format: takes and gives what the torch one does.

    ``facts`` is what the file says of itself, the card included; ``runtime`` runs it.
    Raises CheckpointError: facts are missing.
    """

    def __init__(
        self,
        path: Path,
        *,
        facts: Mapping[str, object],
        run: Run,
        runtime: Runtime = "onnx",
        precision: ExportPrecision = "float32",
    ) -> None:
        super().__init__()
        self.path, self.facts, self.runtime = path, dict(facts), runtime
        self.precision: UsedPrecision = "int8" if facts.get("precision") == "int8" else precision
        self._run = run
        try:
            self.scale = _number(facts, "scale", least=1)
            self.receptive_field = _number(facts, "receptive_field")
            self._overlap = _number(facts, "overlap")
            self.multiple = _number({"multiple": 1, **facts}, "multiple", least=1)
            self.border = _number({"border": 0, **facts}, "border")
            colours = facts["channels"]
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"'{path}' does not say its {error}, in whole numbers to {_LARGEST}; "
                "export the network again."
            ) from error
        if colours not in ("rgb", "y"):
            raise CheckpointError(f"'{path}' says its colours are '{colours}', not 'rgb' or 'y'.")
        self.channels = "rgb" if colours == "rgb" else "y"

    @property
    def overlap(self) -> int:
        """The context of a tile, in LR pixels."""
        return self._overlap

    def forward(self, lr: Tensor) -> Tensor:
        """The SR batch (B, C, scale·H, scale·W) of an LR batch in [0, 1], computed on the CPU.

        Raises CheckpointError: the file makes another size; InputError: under autocast.
        """
        if torch.is_autocast_enabled(lr.device.type):
            raise InputError(
                "An exported network cannot change its precision; leave it at float32 here and "
                "choose it when the file is loaded (OpenVINO has bfloat16)."
            )
        array = np.ascontiguousarray(lr.detach().to("cpu", torch.float32).numpy())
        batch, colours, height, width = array.shape
        shape = (batch, colours, height * self.scale, width * self.scale)
        sr = self._run(array)
        if sr.shape != shape or sr.dtype != np.float32:
            raise CheckpointError(
                f"'{self.path}' makes {sr.dtype} {sr.shape} of {lr.shape[:2]} {width} x {height}, "
                f"not float32 {shape}; export the network again."
            )
        return torch.from_numpy(sr).to(lr.device)


def _number(facts: Mapping[str, object], key: str, *, least: int = 0) -> int:
    value = facts[key]
    if not isinstance(value, int) or not least <= value <= _LARGEST:
        raise TypeError(key)
    return value


def load_exported(
    path: str | Path,
    *,
    threads: int | None = None,
    precision: ExportPrecision = "float32",
    runtime: Runtime | None = None,
    device: str = "cpu",
) -> ExportedNetwork:
    """Return the network in an exported file: ``.onnx`` runs in ONNX Runtime, ``.xml`` in OpenVINO.

    runtime: "openvino" runs ``.onnx`` too. threads: by default as many as this process may use.
    precision: ``"bfloat16"`` lets OpenVINO compute in it where the processor can.
    device: "cuda" or "cuda:1" is for ONNX Runtime with TensorRT or CUDA. Raises InputError.
    """
    path = Path(path)
    if path.suffix.lower() not in EXPORTED_SUFFIXES:
        raise InputError(
            f"'{path}' is no exported network: its name must end in "
            f"{' or '.join(EXPORTED_SUFFIXES)}."
        )
    if not path.is_file():
        raise InputError(f"There is no file '{path}'.")
    if threads is not None and threads < 1:
        raise InputError(f"threads is {threads}; it must be at least 1.")
    runtime = runtime or EXPORTED_SUFFIXES[path.suffix.lower()]
    needed(RUNTIMES[runtime], extra=runtime)
    if threads is None and hasattr(os, "sched_getaffinity"):  # Linux: the cores it may use
        threads = len(os.sched_getaffinity(0))
    if runtime == "onnx":
        if precision != "float32":
            raise InputError(
                f"ONNX Runtime computes in float32 here, not in {precision}; "
                "export the network to OpenVINO for bfloat16."
            )
        facts, run = _open_onnx(path, threads=threads, device=device)
    else:
        facts, run = _open_openvino(path, threads=threads, precision=precision)
    return ExportedNetwork(
        path, facts=_facts(facts, path), run=run, runtime=runtime, precision=precision
    )


def needed(package: str, *, extra: str) -> None:
    """Raise UnavailableError with the command when the package is not installed."""
    if importlib.util.find_spec(package) is None:
        raise UnavailableError(
            f"This needs the package {package}: pip install 'edgekeeper[{extra}]'."
        )


def _facts(text: str | None, path: Path) -> dict[str, object]:
    try:
        facts = parse_json(text or "")
    except ValueError as error:
        raise CheckpointError(
            f"'{path}' was not exported by edgekeeper: it does not say its scale and colours."
        ) from error
    if not isinstance(facts, dict):
        raise CheckpointError(f"The metadata of '{path}' is damaged; export the network again.")
    return facts


def providers_for(device: str) -> list[Any]:
    """Return ONNX Runtime's providers, TensorRT first. Raises InputError, UnavailableError."""
    if device == "cpu":
        return ["CPUExecutionProvider"]
    import onnxruntime

    there, which = onnxruntime.get_available_providers(), device.partition(":")[2] or "0"
    if not which.isdecimal():
        raise InputError(f"There is no device '{device}': choose cpu, cuda or cuda:1.")
    number = {"device_id": int(which)}
    engines = {  # which it takes minutes to build
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(user_cache() / "tensorrt"),
    }
    known = [("TensorrtExecutionProvider", number | engines), ("CUDAExecutionProvider", number)]
    if not (found := [one for one in known if one[0] in there]):
        raise UnavailableError(
            "This ONNX Runtime computes on the CPU: for a GPU pip install onnxruntime-gpu instead "
            "of onnxruntime."
        )
    return [*found, "CPUExecutionProvider"]


def _open_onnx(path: Path, *, threads: int | None, device: str) -> tuple[str | None, Run]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.inter_op_num_threads = 1
    if threads is not None:
        options.intra_op_num_threads = threads
    failures = _own_errors(onnxruntime.capi.onnxruntime_pybind11_state)
    try:
        session = onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=providers_for(device)
        )
    except failures as error:
        raise CheckpointError(f"ONNX Runtime cannot read '{path}': {_short(error)}") from error
    text: str | None = session.get_modelmeta().custom_metadata_map.get(EXPORTED_KEY)
    name = session.get_inputs()[0].name

    def run(lr: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            return np.asarray(session.run(None, {name: lr})[0])
        except failures as error:
            raise _failure(error, lr) from error

    return text, run


def import_openvino() -> Any:
    """Return the module ``openvino``, which must be imported by this function alone.

    By itself it sends an event to a host of its maker's as soon as it is imported, and writes
    ``~/intel``; without its package of telemetry, which here is not found, it does neither.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


def openvino_core() -> Any:
    """Return OpenVINO's ``Core`` of this process: one, never let go.

    A Core gives its thread another stack for signals, and puts back what it found when it ends.
    Of two that end in the order in which they came, or of one that ends in another thread, the
    memory of that stack is gone while signals still go there: Ctrl-C then ends the process by
    SIGSEGV (OpenVINO 2026.4). A fork, which lacks the threads of the Core, gets its own.
    """
    return _core(os.getpid())


@cache
def _core(process: int) -> Any:
    return import_openvino().Core()


def _open_openvino(
    path: Path, *, threads: int | None, precision: ExportPrecision
) -> tuple[str | None, Run]:
    core = openvino_core()
    # OpenVINO takes bfloat16 by itself where it can: float32 has to be asked for.
    hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
    options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads
    try:
        network = core.read_model(str(path))
        places = ([EXPORTED_KEY, "facts"], ["framework", EXPORTED_KEY])  # of .xml, of .onnx
        place = next(filter(network.has_rt_info, places), None)
        text = network.get_rt_info(place).astype(str) if place else None
        if '"precision": "int8"' in (text or ""):  # its few layers in float as is fastest
            del options["INFERENCE_PRECISION_HINT"]
        request = core.compile_model(network, "CPU", options).create_infer_request()
    except RuntimeError as error:
        raise CheckpointError(f"OpenVINO cannot read '{path}': {_short(error)}") from error

    one_at_a_time = threading.Lock()  # a request refuses a second thread

    def run(lr: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            with one_at_a_time:
                return np.array(request.infer({0: lr})[0])  # a copy: the request keeps its memory
        except RuntimeError as error:
            raise _failure(error, lr) from error

    return text, run


def _own_errors(module: Any) -> tuple[type[BaseException], ...]:
    """ONNX Runtime's own exceptions, which share no base but Exception, and Python's."""
    kinds = [value for value in vars(module).values() if isinstance(value, type)]
    return (RuntimeError, ValueError, *(kind for kind in kinds if issubclass(kind, Exception)))


def _short(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ascii(lines[-1])[1:-1].rstrip(".") + "." if lines else f"{type(error).__name__}."


def _failure(error: BaseException, lr: NDArray[np.float32]) -> MemoryError | RuntimeError:
    """Return the error to raise: MemoryError when memory ran out, so that tiles are halved."""
    text = str(error).lower()
    if any(mark in text for mark in ("alloc", "out of memory", "not enough memory")):
        return MemoryError(f"A tile of {lr.shape[-1]} x {lr.shape[-2]} pixels does not fit.")
    return RuntimeError(f"The runtime failed on {lr.shape}: {_short(error)}")
