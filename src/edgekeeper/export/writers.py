"""Networks as ONNX models: by the functions of ``networks`` that write them, or by PyTorch.

A network without functions there goes through PyTorch's own exporter, in float32 only.
"""

import copy
import io
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edgekeeper.errors import InputError
from edgekeeper.export.graph import NO_ROUNDING, OPSET, Graph, Rounding
from edgekeeper.export.networks import NETWORKS, is_known, whole
from edgekeeper.models import GradientBranch, SRModel, SRResNet
from edgekeeper.models.base import COLOUR_COUNT
from edgekeeper.models.srresnet import ResidualBlock


def onnx_model(
    model: SRModel, *, facts: Mapping[str, str], rounding: Rounding = NO_ROUNDING
) -> Any:
    """The ONNX model of a network, input ``lr``, output ``sr``, any size, ``facts`` as metadata.

    ``rounding`` only for networks that ``check_layers_known`` lets pass.

    Raises:
        InputError: PyTorch cannot export a network that has no function here.
    """
    if not is_known(model):
        assert not rounding.inputs
        return _traced(model, facts=facts)
    graph = Graph(rounding=rounding)
    out = whole(graph, model)
    return graph.model(out, channels=COLOUR_COUNT[model.channels], scale=model.scale, facts=facts)


def check_layers_known(model: SRModel) -> None:
    """Raise InputError when the layers of ``model`` cannot be rounded one by one."""
    if not is_known(model):
        inner = model.backbone if isinstance(model, GradientBranch) else model
        raise InputError(
            f"int8 knows the layers of {', '.join(kind.__name__ for kind in NETWORKS)}, not of "
            f"{type(inner).__name__}; export it without --int8."
        )


def folded(model: SRModel) -> SRModel:
    """The network with its batch normalisations in the convolutions before them; same images.

    One whose convolution a gradient branch reads stays, since that reads what comes before it.
    """
    if not any(isinstance(module, SRResNet) for module in model.modules()):
        return model
    model = copy.deepcopy(model)
    taps = model.taps if isinstance(model, GradientBranch) else ()
    read = {f"backbone.{name}" for name in taps}
    for name, module in list(model.named_modules()):
        for first, second in _NORMALISED.get(type(module), ()):
            norm, path = getattr(module, second), f"{name}.{first}".lstrip(".")
            if isinstance(norm, nn.BatchNorm2d) and path not in read:
                setattr(module, first, fuse_conv_bn_eval(getattr(module, first), norm))
                setattr(module, second, nn.Identity())
    return model


_NORMALISED: dict[type[nn.Module], tuple[tuple[str, str], ...]] = {
    SRResNet: (("after_blocks", "after_norm"),),
    ResidualBlock: (("conv1", "norm1"), ("conv2", "norm2")),
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
                model,
                (example,),
                file,
                dynamo=False,
                opset_version=OPSET,
                input_names=["lr"],
                output_names=["sr"],
                dynamic_axes={
                    "lr": {0: "batch", 2: "height", 3: "width"},
                    "sr": {0: "batch", 2: "large_height", 3: "large_width"},
                },
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"PyTorch cannot write {type(model).__name__} as ONNX: "
            f"{str(error).splitlines()[0]}. Networks that interpolate by imresize inside need a "
            "function of their own in edgekeeper/export/networks.py."
        ) from error
    traced = onnx.load_from_string(file.getvalue())
    onnx.helper.set_model_props(traced, dict(facts))
    return traced
