"""An ONNX graph under construction: the few operations that super-resolution networks are made of.

The graph is written by us, not traced: MATLAB's bicubic interpolation, whose matrices depend on
the size of the image, has for whole factors an exact form with fixed weights (``enlarge``),
and each layer keeps its name, so that 8-bit layers can be chosen by it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

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
        self._prefix = ""
        self._kept: dict[str, str] = {}  # module -> what it made
        self._large: dict[tuple[str, str], str] = {}  # value, kind -> the value interpolated

    def constant(self, array: Array) -> str:
        """Return the name of a constant."""
        from onnx import numpy_helper

        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def node(
        self, kind: str, inputs: Sequence[str], *, name: str = "", attributes: Mapping[str, Any]
    ) -> str:
        """Return the name of the output of a new node."""
        from onnx import helper

        name = name or f"{kind.lower()}_{len(self._nodes)}"
        node = helper.make_node(kind, list(inputs), [name], name=name, **attributes)
        self._nodes.append(node)
        return name

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        """While it lasts, layers are those of the part ``name``."""
        before, self._prefix = self._prefix, f"{self._prefix}{name}."
        try:
            yield
        finally:
            self._prefix = before

    def keep(self, name: str, value: str) -> str:
        """``value``, which ``kept`` gives back as what the module ``name`` made."""
        self._kept[self._prefix + name] = value
        return value

    def kept(self, name: str) -> str:
        """Return the value that the module ``name`` made."""
        return self._kept[self._prefix + name]

    # ---- layers --------------------------------------------------------------------------------

    def convolution(self, x: str, layer: nn.Module | Tensor, *, name: str) -> str:
        """Return the convolution ``layer`` of ``x``, in int8 when ``name`` has a range."""
        assert isinstance(layer, nn.Conv2d)
        full = self._prefix + name
        if full in self.rounding.inputs:
            x = self.enter(x, name=name)
            weights = self._whole(self.rounding.weights[full])
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
        out = self.node("Conv", inputs, name=full, attributes=attributes)
        if full in self.rounding.outputs:
            out = self._round(out, self.rounding.outputs[full])
        return self.keep(name, out)

    def enter(self, x: str, *, name: str) -> str:
        """``x`` as the layer ``name`` takes it: rounded to eight bits if that computes in int8."""
        name = self._prefix + name
        if name not in self.rounding.inputs or self._entered.get(name) == x:
            return x
        self._entered[name] = self._round(x, self.rounding.inputs[name])
        return self._entered[name]

    def relu(self, x: str) -> str:
        """max(x, 0)."""
        return self.node("Relu", [x], attributes={})

    def leaky_relu(self, x: str, *, slope: float) -> str:
        """max(x, slope · x)."""
        return self.node("LeakyRelu", [x], attributes={"alpha": slope})

    def prelu(self, x: str, layer: nn.PReLU, *, name: str) -> str:
        """Return the LeakyReLU ``layer`` of ``x``, with the slopes it learnt."""
        slopes = self.constant(layer.weight.detach().numpy()[:, None, None])
        return self.keep(name, self.node("PRelu", [x, slopes], attributes={}))

    def norm(self, x: str, layer: nn.Module, *, name: str) -> str:
        """The batch normalisation ``layer`` of ``x``, or ``x`` itself if the layer is none."""
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_var is not None and layer.running_mean is not None
            factor = layer.weight / (layer.running_var + layer.eps).sqrt()
            shift = layer.bias - layer.running_mean * factor
            x = self.multiply(x, factor.detach().numpy()[:, None, None])
            x = self.add(x, shift.detach().numpy()[:, None, None])
        return self.keep(name, x)

    def join(self, values: Sequence[str]) -> str:
        """Return the maps of all values after another."""
        return self.node("Concat", values, attributes={"axis": 1}) if len(values) > 1 else values[0]

    def tanh(self, x: str) -> str:
        """Return the hyperbolic tangent of ``x``."""
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
        """Return the colours of ``x`` times ``matrix`` (colours out, colours in)."""
        weights = self.constant(np.asarray(matrix, np.float32)[:, :, None, None])
        return self.node("Conv", [x, weights], attributes={"kernel_shape": [1, 1]})

    def shuffle(self, x: str, *, scale: int) -> str:
        """Return the pixel shuffle (B, C·scale², H, W) -> (B, C, scale·H, scale·W)."""
        attributes = {"blocksize": scale, "mode": "CRD"}
        return self.node("DepthToSpace", [x], attributes=attributes)

    def repeated(self, x: str, *, factor: int) -> str:
        """``x`` enlarged by repeating each pixel (nearest neighbour)."""
        scales = self.constant(np.array([1, 1, factor, factor], np.float32))
        attributes = {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
        return self.node("Resize", [x, "", scales], attributes=attributes)

    def unshuffled(self, x: str, *, size: int, channels: int) -> str:
        """Return the blocks of size · size pixels of ``x`` in channels, as torch orders them.

        Sides that are no multiple of ``size`` repeat their last pixel first.
        """
        if size == 1:
            return x
        shape = self.node("Shape", [x], attributes={})
        for axis in (2, 3):
            x = self._filled(x, shape, axis=axis, size=size)
        weights = np.zeros((channels, size, size, channels, size, size), np.float32)
        for c, i, j in np.ndindex(channels, size, size):
            weights[c, i, j, c, i, j] = 1
        own = self.constant(weights.reshape(channels * size**2, channels, size, size))
        attributes = {"kernel_shape": [size, size], "strides": [size, size]}
        return self.node("Conv", [x, own], attributes=attributes)

    def cropped(self, x: str, lr: str, *, scale: int) -> str:
        """Return the top left part of ``x`` that is ``scale`` times as large as ``lr``."""
        shape = self.node("Shape", [lr], attributes={"start": 2})
        ends = self.node("Mul", [shape, self.constant(np.array(scale, np.int64))], attributes={})
        starts, axes = (self.constant(np.array(pair, np.int64)) for pair in ((0, 0), (2, 3)))
        return self.node("Slice", [x, starts, ends, axes], attributes={})

    def gradient_map(self, x: str, *, channels: int) -> str:
        """``ops.gradient.gradient_map`` of ``x``: the length of the central differences."""
        across = np.array([[0, 0, 0], [-1, 0, 1], [0, 0, 0]], np.float32)
        attributes = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "group": channels}
        squares = []
        for kernel in (across, across.T):
            weights = self.constant(np.tile(kernel, (channels, 1, 1, 1)))
            derivative = self.node("Conv", [x, weights], attributes=attributes)
            squares.append(self.multiply(derivative, derivative))
        total = self.add(self.add(*squares), np.array(1e-6))
        return self.node("Sqrt", [total], attributes={})

    def enlarged(
        self, x: str, *, scale: int, channels: int, kind: Interpolation = "bicubic"
    ) -> str:
        """``x`` interpolated, (B, C, scale·H, scale·W)."""
        if (x, kind) not in self._large:  # both halves of a network may ask for it
            small = self.enlarge(x, scale=scale, channels=channels, kind=kind)
            self._large[x, kind] = self.shuffle(small, scale=scale)
        return self._large[x, kind]

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

    def _filled(self, x: str, shape: str, *, axis: int, size: int) -> str:
        """``x`` with its last sample along an axis repeated up to a multiple of ``size``."""
        zero, one, many = (self.constant(np.array(n, np.int64)) for n in (0, 1, size))
        axis_constant = self.constant(np.array(axis, np.int64))
        length = self.node("Gather", [shape, axis_constant], attributes={"axis": 0})
        last = self.node("Sub", [length, one], attributes={})
        cells = self.node(
            "Add", [self.node("Div", [last, many], attributes={}), one], attributes={}
        )
        stop = self.node("Mul", [cells, many], attributes={})
        index = self.node("Range", [zero, stop, one], attributes={})
        index = self.node("Min", [index, last], attributes={})
        return self.node("Gather", [x, index], attributes={"axis": axis})

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
        """Return the ONNX model whose output is the value ``out``, with metadata ``facts``."""
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
    """Return the step between eight-bit values, and the one that stands for 0, of the type to use.

    Values without negative ones take all of uint8; others int8 around 0 or uint8 with an offset.
    """
    low, high = min(limits.low, 0.0), max(limits.high, 0.0)
    smallest = 1e-8  # a layer whose input is always 0
    if low < 0 and signed == "int8":
        return max(-low, high, smallest) / 127, np.array(0, np.int8)
    step = max(high - low, smallest) / 255
    return step, np.array(round(-low / step), np.uint8)
