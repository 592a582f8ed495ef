"""An ONNX graph under construction: the few operations that super-resolution networks are made of.

The graph is written by us, not traced: MATLAB's bicubic interpolation, whose matrices depend on
the size of the picture, has for whole factors an exact form with fixed weights (``enlarge``),
and each layer keeps its name, so that 8-bit layers can be chosen by it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edgekeeper.export.weights import WholeWeights

PRODUCER = "edgekeeper"
OPSET = 17
IR_VERSION = 8

Array = NDArray[Any]
Signed = Literal["int8", "uint8"]
Interpolation = Literal["bicubic", "bilinear"]


@dataclass(frozen=True)
class Range:
    """The smallest and the largest value that eight bits must hold, 0 always between them."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """Which values are rounded to eight bits.

    inputs: the ranges of the inputs of the layers that compute in int8, by layer.
    outputs: the ranges of layers' outputs that are rounded as well.
    weights: the whole weights of the layers that compute in int8.
    signed: how values of both signs are held: "int8" around 0, "uint8" with a zero point.
    """

    inputs: Mapping[str, Range]
    outputs: Mapping[str, Range]
    weights: Mapping[str, WholeWeights]
    signed: Signed


_BORDERS: dict[Interpolation, Literal["mirror", "repeat"]] = {
    "bicubic": "mirror",
    "bilinear": "repeat",
}
NO_ROUNDING = Rounding(inputs={}, outputs={}, weights={}, signed="int8")


class Graph:
    """Nodes and constants of a network; values are known by name. The input is ``"lr"``."""

    def __init__(self, *, rounding: Rounding = NO_ROUNDING) -> None:
        self.rounding = rounding
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._entered: dict[str, str] = {}  # layer -> its rounded input

    def constant(self, array: Array) -> str:
        """The name of a constant."""
        from onnx import numpy_helper

        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def node(
        self, kind: str, inputs: Sequence[str], *, name: str = "", attributes: Mapping[str, Any]
    ) -> str:
        """The name of the output of a new node."""
        from onnx import helper

        name = name or f"{kind.lower()}_{len(self._nodes)}"
        node = helper.make_node(kind, list(inputs), [name], name=name, **attributes)
        self._nodes.append(node)
        return name

    # ---- layers --------------------------------------------------------------------------------

    def convolution(self, x: str, layer: nn.Conv2d, *, name: str) -> str:
        """The convolution ``layer`` of ``x``, in int8 when ``name`` has a range."""
        if name in self.rounding.inputs:
            x = self.enter(x, name=name)
            weights = self._whole(self.rounding.weights[name])
        else:
            weights = self.constant(layer.weight.detach().numpy())
        inputs = [x, weights]
        if layer.bias is not None:
            inputs.append(self.constant(layer.bias.detach().numpy()))
        assert layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        rows, columns = layer.padding
        attributes = {
            "kernel_shape": list(layer.kernel_size),
            "pads": [rows, columns, rows, columns],
            "strides": list(layer.stride),
            "dilations": list(layer.dilation),
            "group": layer.groups,
        }
        out = self.node("Conv", inputs, name=name, attributes=attributes)
        if name in self.rounding.outputs:
            out = self._round(out, self.rounding.outputs[name])
        return out

    def enter(self, x: str, *, name: str) -> str:
        """``x`` as the layer ``name`` takes it: rounded to eight bits if that computes in int8."""
        if name not in self.rounding.inputs or self._entered.get(name) == x:
            return x
        self._entered[name] = self._round(x, self.rounding.inputs[name])
        return self._entered[name]

    def relu(self, x: str) -> str:
        """max(x, 0)."""
        return self.node("Relu", [x], attributes={})

    def tanh(self, x: str) -> str:
        """The hyperbolic tangent of ``x``."""
        return self.node("Tanh", [x], attributes={})

    def add(self, x: str, other: str | Array) -> str:
        """``x`` plus a value or a constant."""
        return self._two("Add", x, other)

    def multiply(self, x: str, other: str | Array) -> str:
        """``x`` times a value or a constant."""
        return self._two("Mul", x, other)

    def _two(self, kind: str, x: str, other: str | Array) -> str:
        if not isinstance(other, str):
            other = self.constant(np.asarray(other, np.float32))
        return self.node(kind, [x, other], attributes={})

    def mix(self, x: str, matrix: Array) -> str:
        """The colours of ``x`` times ``matrix`` (colours out, colours in)."""
        weights = self.constant(np.asarray(matrix, np.float32)[:, :, None, None])
        return self.node("Conv", [x, weights], attributes={"kernel_shape": [1, 1]})

    def shuffle(self, x: str, *, scale: int) -> str:
        """The pixel shuffle (B, C·scale², H, W) -> (B, C, scale·H, scale·W)."""
        attributes = {"blocksize": scale, "mode": "CRD"}
        return self.node("DepthToSpace", [x], attributes=attributes)

    def enlarge(self, x: str, *, scale: int, channels: int, kind: Interpolation) -> str:
        """``x`` (B, C, H, W) interpolated, before the shuffle: (B, C·scale², H, W).

        For a whole factor each of the scale² positions within a pixel has fixed weights on 5 x 5
        pixels; with the border mirrored (bicubic) or repeated (bilinear) by two pixels first, that
        is what ``imresize`` and torch's bilinear interpolation compute, exactly.
        """
        shape = self.node("Shape", [x], attributes={})
        for axis in (2, 3):
            x = self._padded(x, shape, axis=axis, border=_BORDERS[kind])
        one_axis = phase_weights(scale, kind=kind)  # (scale, 5)
        weights = np.einsum("ay,bx->abyx", one_axis, one_axis).reshape(scale**2, 1, 5, 5)
        inputs = [x, self.constant(np.tile(weights, (channels, 1, 1, 1)).astype(np.float32))]
        attributes = {"kernel_shape": [5, 5], "group": channels}
        return self.node("Conv", inputs, attributes=attributes)

    def _padded(self, x: str, shape: str, *, axis: int, border: Literal["mirror", "repeat"]) -> str:
        """``x`` with two more samples on both sides of an axis, whatever its length."""
        zero, one, two, minus_two = (self.constant(np.array(n, np.int64)) for n in (0, 1, 2, -2))
        axis_constant = self.constant(np.array(axis, np.int64))
        length = self.node("Gather", [shape, axis_constant], attributes={"axis": 0})
        stop = self.node("Add", [length, two], attributes={})
        index = self.node("Range", [minus_two, stop, one], attributes={})
        last = self.node("Sub", [length, one], attributes={})
        if border == "repeat":
            index = self.node("Max", [index, zero], attributes={})
            index = self.node("Min", [index, last], attributes={})
        else:  # half-sample symmetric, as in ops.resize: i mod 2n, then min(i, 2n - 1 - i)
            double = self.node("Mul", [length, two], attributes={})
            index = self.node("Mod", [index, double], attributes={})
            end = self.node("Sub", [double, one], attributes={})
            mirrored = self.node("Sub", [end, index], attributes={})
            index = self.node("Min", [index, mirrored], attributes={})
        return self.node("Gather", [x, index], attributes={"axis": axis})

    # ---- eight bits ------------------------------------------------------------------------------

    def _round(self, x: str, limits: Range) -> str:
        step, zero = step_and_zero(limits, signed=self.rounding.signed)
        inputs = [self.constant(np.array(step, np.float32)), self.constant(zero)]
        whole = self.node("QuantizeLinear", [x, *inputs], attributes={})
        return self.node("DequantizeLinear", [whole, *inputs], attributes={})

    def _whole(self, weights: WholeWeights) -> str:
        """Weights held as whole ones and a step for each output."""
        zeros = self.constant(np.zeros(len(weights.steps), np.int8))
        inputs = [self.constant(weights.whole), self.constant(weights.steps), zeros]
        return self.node("DequantizeLinear", inputs, attributes={"axis": 0})

    def model(self, out: str, *, channels: int, scale: int, facts: Mapping[str, str]) -> Any:
        """The ONNX model whose output is the value ``out``, with metadata ``facts``."""
        from onnx import TensorProto, checker, helper

        self._nodes.append(helper.make_node("Identity", [out], ["sr"], name="sr"))
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self._nodes,
            PRODUCER,
            [value("lr", TensorProto.FLOAT, ["batch", channels, "height", "width"])],
            [
                value(
                    "sr",
                    TensorProto.FLOAT,
                    ["batch", channels, f"{scale}*height", f"{scale}*width"],
                )
            ],
            self._constants,
        )
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(
            graph, opset_imports=opset, ir_version=IR_VERSION, producer_name=PRODUCER
        )
        helper.set_model_props(model, dict(facts))
        checker.check_model(model)
        return model


def phase_weights(scale: int, *, kind: Interpolation) -> Array:
    """The weights (scale, 5) of the pixels i - 2 to i + 2 for each new pixel within pixel i."""
    centre = (np.arange(scale) + 0.5) / scale - 0.5
    d = np.abs(centre[:, None] - np.arange(-2, 3))
    if kind == "bilinear":
        triangle: Array = np.maximum(1 - d, 0)
        return triangle
    near = 1.5 * d**3 - 2.5 * d**2 + 1  # Keys' cubic kernel, a = -0.5, as in ops.resize
    far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    weights: Array = np.where(d <= 1, near, np.where(d <= 2, far, 0.0))
    return weights


def step_and_zero(limits: Range, *, signed: Signed) -> tuple[float, Array]:
    """The step between eight-bit values, and the one that stands for 0, of the type to use.

    Values without negative ones take all of uint8; others int8 around 0 or uint8 with an offset.
    """
    low, high = min(limits.low, 0.0), max(limits.high, 0.0)
    smallest = 1e-8  # a layer whose input is always 0
    if low < 0 and signed == "int8":
        return max(-low, high, smallest) / 127, np.array(0, np.int8)
    step = max(high - low, smallest) / 255
    return step, np.array(round(-low / step), np.uint8)
