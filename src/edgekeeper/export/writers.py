"""Each network as an ONNX graph: one function a paper, the forward pass in the graph's operations.

A network without a function here goes through PyTorch's own exporter, in float32 only.
"""

import io
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from edgekeeper.errors import InputError
from edgekeeper.export.graph import NO_ROUNDING, OPSET, Graph, Rounding
from edgekeeper.models import EDSR, ESPCN, SRCNN, VDSR, SRModel
from edgekeeper.models.base import COLOUR_COUNT
from edgekeeper.models.edsr import ResidualBlock
from edgekeeper.published import YCbCrESPCN


def onnx_model(
    model: SRModel, *, facts: Mapping[str, str], rounding: Rounding = NO_ROUNDING
) -> Any:
    """The ONNX model of a network, input ``lr``, output ``sr``, any size, ``facts`` as metadata.

    ``rounding`` only for networks that ``check_layers_known`` lets pass.

    Raises:
        InputError: PyTorch cannot export a network that has no function here.
    """
    write = WRITERS.get(type(model))
    if write is None:
        assert not rounding.inputs
        return _traced(model, facts=facts)
    graph = Graph(rounding=rounding)
    out = write(graph, model)
    return graph.model(out, channels=COLOUR_COUNT[model.channels], scale=model.scale, facts=facts)


def check_layers_known(model: SRModel) -> None:
    """Nothing; raises InputError when the layers of ``model`` cannot be rounded one by one."""
    if type(model) not in WRITERS:
        raise InputError(
            f"int8 knows the layers of {', '.join(kind.__name__ for kind in WRITERS)}, not of "
            f"{type(model).__name__}; export it without --int8."
        )


def layers(model: SRModel) -> list[str]:
    """The names of the network's convolutions, in the order in which they are passed."""
    return [name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)]


# ---- one function a network ------------------------------------------------------------------


def _srcnn(graph: Graph, model: Any) -> str:
    assert isinstance(model, SRCNN)
    channels = COLOUR_COUNT[model.channels]
    maps = graph.enlarge("lr", scale=model.scale, channels=channels, kind="bicubic")
    maps = graph.shuffle(maps, scale=model.scale)
    maps = graph.relu(graph.convolution(maps, model.conv1, name="conv1"))
    maps = graph.relu(graph.convolution(maps, model.conv2, name="conv2"))
    return graph.convolution(maps, model.conv3, name="conv3")


def _vdsr(graph: Graph, model: Any) -> str:
    assert isinstance(model, VDSR)
    channels = COLOUR_COUNT[model.channels]
    large = graph.enlarge("lr", scale=model.scale, channels=channels, kind=model.interpolation)
    large = maps = graph.shuffle(large, scale=model.scale)
    for index, layer in enumerate(model.hidden):
        assert isinstance(layer, nn.Conv2d)
        maps = graph.relu(graph.convolution(maps, layer, name=f"hidden.{index}"))
    return graph.add(large, graph.convolution(maps, model.last, name="last"))


def _espcn(graph: Graph, model: Any, *, x: str = "lr", prefix: str = "") -> str:
    assert isinstance(model, ESPCN)
    maps = graph.tanh(graph.convolution(x, model.conv1, name=f"{prefix}conv1"))
    maps = graph.tanh(graph.convolution(maps, model.conv2, name=f"{prefix}conv2"))
    maps = graph.convolution(maps, model.conv3, name=f"{prefix}conv3")
    return graph.shuffle(maps, scale=model.scale)


def _ycbcr_espcn(graph: Graph, model: Any) -> str:
    assert isinstance(model, YCbCrESPCN)
    offset = model.offset.numpy()
    ycbcr = graph.add(graph.mix("lr", model.matrix.squeeze().numpy()), offset)
    sr = _espcn(graph, model.network, x=ycbcr, prefix="network.")
    return graph.mix(graph.add(sr, -offset), model.inverse.squeeze().numpy())


def _edsr(graph: Graph, model: Any) -> str:
    assert isinstance(model, EDSR)
    mean = model.mean.numpy()
    shallow = maps = graph.convolution(graph.add("lr", -mean), model.head, name="head")
    for index, block in enumerate(model.blocks):
        assert isinstance(block, ResidualBlock)
        first, second = f"blocks.{index}.conv1", f"blocks.{index}.conv2"
        # The trunk goes on as the block sees it, so that in int8 no float copy of it is kept.
        maps = graph.enter(maps, name=first)
        residual = graph.relu(graph.convolution(maps, block.conv1, name=first))
        residual = graph.convolution(residual, block.conv2, name=second)
        if block.residual_scale != 1.0:
            residual = graph.multiply(residual, np.array(block.residual_scale))
        maps = graph.add(maps, residual)
    maps = graph.add(shallow, graph.convolution(maps, model.after_blocks, name="after_blocks"))
    return _edsr_upsampled(graph, model, maps)


def _edsr_upsampled(graph: Graph, model: EDSR, maps: str) -> str:
    """The upsampler and the skip around the network."""
    skip, last = "", len(model.upsampler) - 1
    if model.skip == "bicubic":
        skip = graph.enlarge("lr", scale=model.scale, channels=3, kind="bicubic")
    for index, layer in enumerate(model.upsampler):
        if isinstance(layer, nn.Conv2d):
            maps = graph.convolution(maps, layer, name=f"upsampler.{index}")
            continue
        assert isinstance(layer, nn.PixelShuffle)
        if skip and index == last:  # "direct": added at LR size, one shuffle does both
            return graph.shuffle(graph.add(maps, skip), scale=model.scale)
        maps = graph.shuffle(maps, scale=layer.upscale_factor)
    if skip:
        return graph.add(maps, graph.shuffle(skip, scale=model.scale))
    return graph.add(maps, model.mean.numpy())


WRITERS: dict[type[SRModel], Callable[[Graph, Any], str]] = {
    SRCNN: _srcnn,
    VDSR: _vdsr,
    ESPCN: _espcn,
    EDSR: _edsr,
    YCbCrESPCN: _ycbcr_espcn,
}


# ---- any other network -------------------------------------------------------------------------


def _traced(model: SRModel, *, facts: Mapping[str, str]) -> Any:
    """The ONNX model that PyTorch's tracing exporter makes; the check afterwards judges it."""
    import onnx

    example = torch.rand(
        (1, COLOUR_COUNT[model.channels], 24, 28), generator=torch.Generator().manual_seed(0)
    )
    file: Any = io.BytesIO()  # the tracing exporter writes to it
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecation, and constants that depend on the size
            torch.onnx.export(
                model, (example,), file, dynamo=False, opset_version=OPSET,
                input_names=["lr"], output_names=["sr"],
                dynamic_axes={
                    "lr": {0: "batch", 2: "height", 3: "width"},
                    "sr": {0: "batch", 2: "large_height", 3: "large_width"},
                },
            )  # fmt: skip
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"PyTorch cannot write {type(model).__name__} as ONNX: "
            f"{str(error).splitlines()[0]}. Networks that interpolate by imresize inside need a "
            "function of their own in edgekeeper/export/writers.py."
        ) from error
    traced = onnx.load_from_string(file.getvalue())
    onnx.helper.set_model_props(traced, dict(facts))
    return traced
