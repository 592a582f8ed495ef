"""Each network as graph operations: one pair of functions a paper.

``features`` and ``reconstruct`` are those of the network, written with a ``Graph``. A value that a
gradient branch may read is kept under the name of its module.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from edgekeeper.export.graph import Graph
from edgekeeper.models import (
    EDSR,
    ESPCN,
    RRDB,
    SRCNN,
    VDSR,
    DGGGANLight,
    GradientBranch,
    MSRResNet,
    SRModel,
    SRResNet,
)
from edgekeeper.models.base import COLOUR_COUNT
from edgekeeper.models.dgggan_light import SLOPE as LIGHT_SLOPE
from edgekeeper.models.dgggan_light import ChainBlock
from edgekeeper.models.enlarge import SLOPE
from edgekeeper.models.rrdb import RESIDUAL, DenseBlock, RRDBlock
from edgekeeper.models.srresnet import SLOPE as MSR_SLOPE
from edgekeeper.models.srresnet import ResidualBlock
from edgekeeper.pretrained.luma import YCbCrESPCN


@dataclass(frozen=True)
class NetworkFunctions:
    """What writes a network: ``features(graph, model, lr)``, ``reconstruct(..., features, lr)``."""

    features: Callable[[Graph, Any, str], str]
    reconstruct: Callable[[Graph, Any, str, str], str]


def whole(graph: Graph, model: SRModel, *, lr: str = "lr") -> str:
    """Return the value of the network's result for the value ``lr``."""
    functions = NETWORKS[type(model)]
    return functions.reconstruct(graph, model, functions.features(graph, model, lr), lr)


def is_known(model: SRModel) -> bool:
    """Return whether the network is written here, and the one inside it if there is one."""
    inner = model.backbone if isinstance(model, GradientBranch) else model
    return type(model) in NETWORKS and type(inner) in NETWORKS


# ---- networks on the interpolated image ------------------------------------------------------


def _srcnn_features(graph: Graph, model: SRCNN, lr: str) -> str:
    maps = graph.enlarged(lr, scale=model.scale, channels=COLOUR_COUNT[model.channels])
    maps = graph.relu(graph.convolution(maps, model.conv1, name="conv1"))
    return graph.relu(graph.convolution(maps, model.conv2, name="conv2"))


def _srcnn_reconstruct(graph: Graph, model: SRCNN, features: str, lr: str) -> str:
    return graph.convolution(features, model.conv3, name="conv3")


def _vdsr_large(graph: Graph, model: VDSR, lr: str) -> str:
    channels = COLOUR_COUNT[model.channels]
    return graph.enlarged(lr, scale=model.scale, channels=channels, kind=model.interpolation)


def _vdsr_features(graph: Graph, model: VDSR, lr: str) -> str:
    maps = _vdsr_large(graph, model, lr)
    for index, layer in enumerate(model.hidden):
        maps = graph.relu(graph.convolution(maps, layer, name=f"hidden.{index}"))
        graph.keep(f"hidden.{index}", maps)  # its ReLU works in place
    return maps


def _vdsr_reconstruct(graph: Graph, model: VDSR, features: str, lr: str) -> str:
    large = _vdsr_large(graph, model, lr)
    return graph.add(large, graph.convolution(features, model.last, name="last"))


# ---- networks at LR size -----------------------------------------------------------------------


def _espcn_features(graph: Graph, model: ESPCN, lr: str) -> str:
    maps = graph.tanh(graph.convolution(lr, model.conv1, name="conv1"))
    return graph.tanh(graph.convolution(maps, model.conv2, name="conv2"))


def _espcn_reconstruct(graph: Graph, model: ESPCN, features: str, lr: str) -> str:
    maps = graph.convolution(features, model.conv3, name="conv3")
    return graph.shuffle(maps, scale=model.scale)


def _ycbcr_features(graph: Graph, model: YCbCrESPCN, lr: str) -> str:
    ycbcr = graph.mix(lr, model.matrix.squeeze().numpy())
    with graph.within("network"):
        return _espcn_features(graph, model.network, graph.add(ycbcr, model.offset.numpy()))


def _ycbcr_reconstruct(graph: Graph, model: YCbCrESPCN, features: str, lr: str) -> str:
    with graph.within("network"):
        sr = _espcn_reconstruct(graph, model.network, features, lr)
    return graph.mix(graph.add(sr, -model.offset.numpy()), model.inverse.squeeze().numpy())


def _edsr_features(graph: Graph, model: EDSR, lr: str) -> str:
    lr = graph.add(lr, -model.mean.numpy())
    shallow = maps = graph.convolution(lr, model.head, name="head")
    for index, block in enumerate(model.blocks):
        maps = _edsr_block(graph, block, maps, f"blocks.{index}")
    return graph.add(shallow, graph.convolution(maps, model.after_blocks, name="after_blocks"))


def _edsr_block(graph: Graph, block: Any, maps: str, name: str) -> str:
    first = f"{name}.conv1"
    # The trunk goes on as the block sees it, so that in int8 no float copy of it is kept.
    maps = graph.enter(maps, name=first)
    residual = graph.relu(graph.convolution(maps, block.conv1, name=first))
    graph.keep(first, residual)  # its ReLU works in place
    residual = graph.convolution(residual, block.conv2, name=f"{name}.conv2")
    if block.residual_scale != 1.0:
        residual = graph.multiply(residual, np.array(block.residual_scale))
    return graph.keep(name, graph.add(maps, residual))


def _edsr_reconstruct(graph: Graph, model: EDSR, features: str, lr: str) -> str:
    skip, last, maps = "", len(model.upsampler) - 1, features
    if model.skip == "bicubic":
        skip = graph.enlarge(lr, scale=model.scale, channels=3, kind="bicubic")
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


def _dgggan_light_features(graph: Graph, model: DGGGANLight, lr: str) -> str:
    shallow = maps = graph.convolution(lr, model.head, name="head")
    for index, block in enumerate(model.blocks):
        assert isinstance(block, ChainBlock)
        name = f"blocks.{index}"
        maps = graph.enter(maps, name=f"{name}.chain.0")
        one, two, last = block.chain
        near = graph.convolution(maps, one, name=f"{name}.chain.0")
        near = graph.leaky_relu(near, slope=LIGHT_SLOPE)
        far = graph.convolution(near, two, name=f"{name}.chain.1")
        far = graph.leaky_relu(far, slope=LIGHT_SLOPE)
        residual = graph.convolution(graph.add(near, far), last, name=f"{name}.chain.2")
        maps = graph.keep(name, graph.add(maps, residual))
    return graph.add(shallow, graph.convolution(maps, model.after_blocks, name="after_blocks"))


def _dgggan_light_reconstruct(graph: Graph, model: DGGGANLight, features: str, lr: str) -> str:
    skip = graph.enlarge(lr, scale=model.scale, channels=3, kind="bicubic")
    maps = graph.convolution(features, model.last, name="last")
    return graph.shuffle(graph.add(maps, skip), scale=model.scale)


# ---- networks with layers at HR size -----------------------------------------------------------


def _rrdb_features(graph: Graph, model: RRDB, lr: str) -> str:
    x = graph.unshuffled(lr, size=model.unshuffle, channels=3)
    shallow = maps = graph.convolution(x, model.head, name="head")
    for index, block in enumerate(model.blocks):
        assert isinstance(block, RRDBlock)
        name, given = f"blocks.{index}", maps
        for place, dense in enumerate(block.dense):
            assert isinstance(dense, DenseBlock)
            maps = _dense_block(graph, dense, maps, f"{name}.dense.{place}")
        maps = graph.keep(name, graph.add(given, graph.multiply(maps, np.array(RESIDUAL))))
    return graph.add(shallow, graph.convolution(maps, model.after_blocks, name="after_blocks"))


def _dense_block(graph: Graph, block: DenseBlock, x: str, name: str) -> str:
    seen, out = [x], x
    for index, layer in enumerate(block.convs):
        out = graph.convolution(graph.join(seen), layer, name=f"{name}.convs.{index}")
        seen.append(graph.leaky_relu(out, slope=SLOPE) if index < 4 else out)
    return graph.keep(name, graph.add(x, graph.multiply(out, np.array(RESIDUAL))))


def _rrdb_reconstruct(graph: Graph, model: RRDB, features: str, lr: str) -> str:
    maps = features
    for index, (factor, layer) in enumerate(
        zip(model.enlarge.factors, model.enlarge.convs, strict=True)
    ):
        maps = graph.convolution(
            graph.repeated(maps, factor=factor), layer, name=f"enlarge.convs.{index}"
        )
        maps = graph.leaky_relu(maps, slope=SLOPE)
    maps = graph.convolution(maps, model.refine, name="refine")
    maps = graph.convolution(graph.leaky_relu(maps, slope=SLOPE), model.last, name="last")
    return graph.cropped(maps, lr, scale=model.scale) if model.unshuffle > 1 else maps


def _srresnet_features(graph: Graph, model: SRResNet, lr: str) -> str:
    maps = graph.convolution(lr, model.head, name="head")
    shallow = maps = graph.prelu(maps, model.activation, name="activation")
    for index, block in enumerate(model.blocks):
        assert isinstance(block, ResidualBlock)
        name = f"blocks.{index}"
        maps = graph.enter(maps, name=f"{name}.conv1")
        change = graph.convolution(maps, block.conv1, name=f"{name}.conv1")
        change = graph.norm(change, block.norm1, name=f"{name}.norm1")
        change = graph.prelu(change, block.activation, name=f"{name}.activation")
        change = graph.convolution(change, block.conv2, name=f"{name}.conv2")
        change = graph.norm(change, block.norm2, name=f"{name}.norm2")
        maps = graph.keep(name, graph.add(maps, change))
    maps = graph.convolution(maps, model.after_blocks, name="after_blocks")
    return graph.add(shallow, graph.norm(maps, model.after_norm, name="after_norm"))


def _srresnet_reconstruct(graph: Graph, model: SRResNet, features: str, lr: str) -> str:
    maps = _shuffles(graph, model.upsampler, features)
    sr = graph.convolution(maps, model.last, name="last")
    if model.output == "linear":
        return sr
    return graph.multiply(graph.add(graph.tanh(sr), np.array(1.0)), np.array(0.5))


def _msrresnet_features(graph: Graph, model: MSRResNet, lr: str) -> str:
    maps = graph.leaky_relu(graph.convolution(lr, model.head, name="head"), slope=MSR_SLOPE)
    for index, block in enumerate(model.blocks):
        name = f"blocks.{index}"
        maps = graph.enter(maps, name=f"{name}.conv1")
        change = graph.relu(graph.convolution(maps, block.conv1, name=f"{name}.conv1"))
        change = graph.convolution(change, block.conv2, name=f"{name}.conv2")
        maps = graph.keep(name, graph.add(maps, change))
    return maps


def _msrresnet_reconstruct(graph: Graph, model: MSRResNet, features: str, lr: str) -> str:
    maps = _shuffles(graph, model.upsampler, features)
    maps = graph.convolution(maps, model.refine, name="refine")
    sr = graph.convolution(graph.leaky_relu(maps, slope=MSR_SLOPE), model.last, name="last")
    return graph.add(sr, graph.enlarged(lr, scale=model.scale, channels=3, kind="bilinear"))


def _shuffles(graph: Graph, upsampler: nn.Sequential, maps: str) -> str:
    """Return the convolutions, pixel shuffles and activations of an SRResNet's upsampler."""
    for index, layer in enumerate(upsampler):
        name = f"upsampler.{index}"
        if isinstance(layer, nn.Conv2d):
            maps = graph.convolution(maps, layer, name=name)
        elif isinstance(layer, nn.PixelShuffle):
            maps = graph.shuffle(maps, scale=layer.upscale_factor)
        elif isinstance(layer, nn.PReLU):
            maps = graph.prelu(maps, layer, name=name)
        else:
            assert isinstance(layer, nn.LeakyReLU)
            maps = graph.leaky_relu(maps, slope=layer.negative_slope)
    return maps


# ---- networks around another -------------------------------------------------------------------


def _branch_features(graph: Graph, model: GradientBranch, lr: str) -> str:
    channels = COLOUR_COUNT[model.channels]
    with graph.within("backbone"):
        features = NETWORKS[type(model.backbone)].features(graph, model.backbone, lr)
        taps = [graph.kept(name) for name in model.taps]
    image = lr
    if model.enlarged_first:
        image = graph.enlarged(lr, scale=model.scale, channels=channels)
    g = graph.convolution(graph.gradient_map(image, channels=channels), model.head, name="head")
    for index, (step, tap) in enumerate(zip(model.steps, [*taps, features], strict=True)):
        name = f"steps.{index}"
        maps = graph.convolution(graph.join([g, tap]), step.conv1, name=f"{name}.conv1")
        maps = graph.leaky_relu(maps, slope=SLOPE)
        g = graph.add(g, graph.convolution(maps, step.conv2, name=f"{name}.conv2"))
    first, _, last = model.fusion
    maps = graph.convolution(graph.join([features, g]), first, name="fusion.0")
    maps = graph.convolution(graph.leaky_relu(maps, slope=SLOPE), last, name="fusion.2")
    return graph.add(features, maps)


def _branch_reconstruct(graph: Graph, model: GradientBranch, features: str, lr: str) -> str:
    with graph.within("backbone"):
        return NETWORKS[type(model.backbone)].reconstruct(graph, model.backbone, features, lr)


NETWORKS: dict[type[SRModel], NetworkFunctions] = {
    SRCNN: NetworkFunctions(_srcnn_features, _srcnn_reconstruct),
    VDSR: NetworkFunctions(_vdsr_features, _vdsr_reconstruct),
    ESPCN: NetworkFunctions(_espcn_features, _espcn_reconstruct),
    YCbCrESPCN: NetworkFunctions(_ycbcr_features, _ycbcr_reconstruct),
    EDSR: NetworkFunctions(_edsr_features, _edsr_reconstruct),
    DGGGANLight: NetworkFunctions(_dgggan_light_features, _dgggan_light_reconstruct),
    RRDB: NetworkFunctions(_rrdb_features, _rrdb_reconstruct),
    SRResNet: NetworkFunctions(_srresnet_features, _srresnet_reconstruct),
    MSRResNet: NetworkFunctions(_msrresnet_features, _msrresnet_reconstruct),
    GradientBranch: NetworkFunctions(_branch_features, _branch_reconstruct),
}
