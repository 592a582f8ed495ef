"""Makes the files by which OpenVINO and ONNX Runtime run networks that ship, and says how near.

    python benchmarks/ship_exported.py [NETWORK ...] --measure FOLDER --measure FOLDER

`weights/exported/NAME.onnx` holds what the network's file holds, in half precision where that is
exact; `NAME.int8.onnx` is calibrated on `examples/train`, and its loss, measured on the images of
the folders, stands in it. Run it again after a network has changed: a file of another is not used.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edgekeeper.inference.export import _network_and_facts, _refuse
from edgekeeper.inference.export.convert import check, onnx_model, write
from edgekeeper.inference.export.int8 import (
    Split,
    float_layers,
    layers,
    measure_loss,
    quantised,
    split_images,
)
from edgekeeper.pretrained.exported import load_exported
from edgekeeper.pretrained.zoo import DEFAULTS, EXPORTS

NAMES = sorted(
    {name for style in ("auto", "restore") for name in DEFAULTS[style].values()}
    | {"fast_x2", "fast_x4"}
)
CALIBRATION = Path(__file__).parent.parent / "examples/train"


def halved(model: Any) -> Any:
    """The model with weights in half precision, cast when it is read, where nothing is lost."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for number, tensor in enumerate(model.graph.initializer):
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.size > 64 and np.array_equal(half.astype(np.float32), values):
            name = tensor.name
            small = numpy_helper.from_array(half, f"{name}.half")
            model.graph.initializer[number].CopyFrom(small)
            casts.append(helper.make_node("Cast", [small.name], [name], to=TensorProto.FLOAT))
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NAMES)
    parser.add_argument("--measure", type=Path, action="append", required=True)
    given = parser.parse_args()
    EXPORTS.mkdir(exist_ok=True)
    for name in given.networks:
        network, facts = _network_and_facts(name)
        calibrating = split_images(CALIBRATION, scale=network.scale)
        measuring = [split_images(folder, scale=network.scale) for folder in given.measure]
        split = Split(
            calibrate=calibrating.calibrate + calibrating.measure,
            measure=[hr for one in measuring for hr in one.calibrate + one.measure],
        )
        onnx = onnx_model(network)
        with tempfile.TemporaryDirectory() as folder:
            draft = Path(folder, "draft.onnx")
            kept = float_layers(onnx, network, keep="ends")
            # ChainSR's 1 x 1 reads maps of four layers, of different ranges, in one step.
            kept += [layer for layer in layers(onnx, network).values() if layer == "join"]
            rounded = quantised(
                onnx, network, images=split.calibrate, runtime="openvino", kept=kept
            )
            facts["precision"] = "float32"
            write(draft, halved(onnx), facts=facts)
            for runtime in ("onnx", "openvino"):
                near = check(load_exported(draft, runtime=runtime), network)  # type: ignore[arg-type]
                print(f"{name} {runtime}: pixels within {near.pixels:.2g}, {near.psnr:.0f} dB")
            draft.replace(EXPORTS / f"{name}.onnx")
            rounded = halved(rounded)
            write(draft, rounded, facts=facts)
            loss = measure_loss(load_exported(draft, runtime="openvino"), network, split=split)
            print(f"{name} int8: {loss.db:.4f} dB lost on {loss.images} images", flush=True)
            _refuse(loss, allowed=0.2)
            facts |= {"precision": "int8", "int8": {"float_layers": kept, **loss.to_json()}}
            write(draft, rounded, facts=facts)
            check(load_exported(draft, runtime="openvino"), network, kind="int8")
            draft.replace(EXPORTS / f"{name}.int8.onnx")


if __name__ == "__main__":
    main()
