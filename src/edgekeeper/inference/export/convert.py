"""Networks as ONNX models, made by PyTorch's exporter, and as files of ONNX or OpenVINO."""

import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from edgekeeper.errors import InputError
from edgekeeper.models import SRModel
from edgekeeper.models.base import COLOUR_COUNT
from edgekeeper.pretrained.exported import EXPORTED_KEY, import_openvino

OPSET = 18

# The facts that stand by themselves as well, for other programs
SHORT = ("scale", "channels", "value_range", "receptive_field", "overlap", "precision")


def onnx_model(network: SRModel) -> Any:
    """Return the ONNX model of a network: input ``lr``, output ``sr``, batch and sides open.

    Layers keep their names, and a batch normalisation becomes part of the convolution before it.
    """
    example = torch.zeros(2, COLOUR_COUNT[network.channels], 24, 28)
    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=["lr"],
                output_names=["sr"],
                dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
            )
    except torch.onnx.OnnxExporterError as error:
        raise InputError(
            f"PyTorch cannot write {type(network).__name__} as ONNX: {_reason(error)}"
        ) from error
    assert program is not None
    model = program.model_proto
    for part in (model.graph, *model.graph.node, *model.graph.value_info):
        del part.metadata_props[:]  # stack traces, with paths of this machine
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what the exporter says of its own parts: deprecations, operators not installed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """Return the first line of the error at the bottom of the exporter's report."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or ["no more is known"]
    return f"{type(error).__name__}: {lines[0]}"


def write(path: Path, model: Any, *, facts: Mapping[str, object]) -> None:
    """Write an ONNX model and what is known of it, in the format of the file extension."""
    if path.suffix.lower() == ".onnx":
        _write_onnx(path, model, facts=facts)
    else:
        _write_openvino(path, model, facts=facts)


def _write_onnx(path: Path, model: Any, *, facts: Mapping[str, object]) -> None:
    import onnx

    entries = {EXPORTED_KEY: json.dumps(facts)}
    entries |= {f"{EXPORTED_KEY}.{key}": str(facts[key]) for key in SHORT}
    onnx.helper.set_model_props(model, entries)
    path.write_bytes(model.SerializeToString())


def _write_openvino(path: Path, model: Any, *, facts: Mapping[str, object]) -> None:
    openvino = import_openvino()
    network = openvino.Core().read_model(io.BytesIO(model.SerializeToString()))
    network.set_rt_info(json.dumps(facts), [EXPORTED_KEY, "facts"])
    for key in SHORT:
        network.set_rt_info(str(facts[key]), [EXPORTED_KEY, key])
    plain = path.with_suffix(".xml")  # as OpenVINO spells it
    try:
        openvino.save_model(network, str(plain), compress_to_fp16=False)
    except RuntimeError as error:  # of a full disk it does not say more
        raise OSError(f"OpenVINO's writer failed ({error}); is the disk full?") from error
    plain.replace(path)
