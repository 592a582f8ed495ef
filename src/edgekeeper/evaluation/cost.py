"""What a network costs: parameters, multiply-accumulates, seconds and memory.

A multiply-accumulate (MAC) is counted for every weight of a convolution, transposed convolution
or linear layer and every place it is applied to, zeros around the image included. Interpolation,
activations, normalisation, fixed gradient kernels and products of attention are not counted.

Table 5 of DGGGAN (https://doi.org/10.54097/jceim.v10i1.5074) prints FLOPs without saying how they
were counted. Its columns of ESRGAN, SPSR, SRGAN and DGGGAN come out with 2 (MAC + outputs with a
bias) at an LR image of 50 x 50 pixels; ``Count.flops`` is that number at any size. PyTorch's
``flop_counter`` counts products of attention too, and no outputs with a bias: so hooks do it here.
"""

import copy
import ctypes
import re
import statistics
import time
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from edgekeeper.errors import InputError, UnavailableError, check_choice, unknown_name
from edgekeeper.files import parse_json
from edgekeeper.inference.network import infer
from edgekeeper.models import MODELS, GradientGuided, SRModel, parameter_count
from edgekeeper.models.base import COLOUR_COUNT
from edgekeeper.pretrained.zoo import WEIGHTS, load
from edgekeeper.spec import Spec, from_json

TABLE5_SIZE = (50, 50)  # height and width in LR pixels at which Table 5's FLOPs come out
MOST_PIXELS = 10**8  # of an LR image that is counted or measured, three times one of 8K

_WORDS = {"True": True, "False": False}  # as Python has them; JSON has true and false


@runtime_checkable
class GradientNetwork(Protocol):
    """A network that also makes the gradient map of the SR image."""

    def with_gradient(self, lr: Tensor) -> GradientGuided:
        """Return the SR batch and the gradient map."""


_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


@dataclass(frozen=True)
class Count:
    """What one pass costs; nothing here depends on a machine."""

    parameters: int
    size: tuple[int, int]  # of the LR image
    macs: int
    bias_outputs: int  # results to which a bias is added

    @property
    def macs_per_pixel(self) -> float:
        """MACs per LR pixel."""
        return self.macs / (self.size[0] * self.size[1])

    @property
    def flops(self) -> int:
        """FLOPs by Table 5's rule: 2 (MAC + outputs with a bias)."""
        return 2 * (self.macs + self.bias_outputs)


@dataclass(frozen=True)
class Measured:
    """What one pass took on this machine, in float32."""

    size: tuple[int, int]
    seconds: float  # the median of the passes
    fastest: float
    slowest: float
    repeats: int
    threads: int
    device: str
    peak_bytes: int | None  # beyond network and input; None where the system does not say


def find_network(text: str, *, scale: int = 4) -> SRModel:
    """Return the network that ``text`` names, in evaluation mode. Raises InputError.

    A network that ships, a network file, or a class of MODELS with arguments, as in
    ``edsr:width=256,blocks=32``. ``scale`` is for those that do not say theirs.
    """
    if not has_trained_weights(text):
        return _built(parse_network(text, scale=scale))
    shipped = [path.stem for path in sorted(WEIGHTS.glob("*.safetensors"))]
    path = Path(text)
    if path.is_file() or path.suffix or len(path.parts) > 1 or text in shipped:
        return load(text, scale=scale)
    raise unknown_name("network", text, known=[*shipped, *MODELS])


def has_trained_weights(text: str) -> bool:
    """Return whether ``text`` names a file of weights, not a class alone."""
    if text.partition(":")[0] not in MODELS:
        return True
    try:
        return Path(text).is_file()
    except OSError:  # a name that is too long for a file
        return False


def parse_network(text: str, *, scale: int = 4) -> Spec[SRModel]:
    """Return the class of MODELS and its arguments that ``text`` names.

    Values are JSON or else words; ``scale`` is added where the class has it and ``text`` does not.
    Raises InputError.
    """
    name, _, rest = text.partition(":")
    check_choice("network class", name, known=MODELS)
    arguments: dict[str, object] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise InputError(
                f"'{text}': after '{name}:' come arguments with values, such as width=64,blocks=5."
            )
        arguments[key.strip()] = _value(value.strip())
    if "scale" in signature(MODELS[name]).parameters:
        arguments.setdefault("scale", scale)
    return from_json({"name": name, "arguments": arguments}, known=MODELS)


def _value(text: str) -> object:
    try:
        return parse_json(text)
    except ValueError:  # no JSON
        return _WORDS.get(text, text)


def _built(spec: Spec[SRModel]) -> SRModel:
    try:
        return spec.build().eval()
    except InputError:
        raise
    except Exception as error:  # whatever a class says of arguments that do not go together
        why = str(error).partition("\n")[0].rstrip(" .") or type(error).__name__
        raise InputError(f"{spec.name} cannot be built so: {why}.") from error


def count(
    model: SRModel,
    *,
    size: tuple[int, int] = TABLE5_SIZE,
    of: Literal["image", "image and gradient map"] = "image",
) -> Count:
    """Parameters, MACs and outputs with a bias of one pass over an LR image of ``size``.

    Nothing is computed: the network is run on shapes alone. ``of``: SPSR and DGGGAN make the SR
    gradient map in training only; the papers count it. Raises UnavailableError for a network whose
    layers cannot be seen (an exported file).
    """
    _check_size(size)
    if not any(isinstance(module, _LAYERS) for module in model.modules()):
        raise UnavailableError(
            f"The layers of {type(model).__name__} cannot be seen, so they cannot be counted; "
            "count the network that it was exported from."
        )
    shapes = copy.deepcopy(model).to("meta").eval()
    macs = bias_outputs = 0

    def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs, bias_outputs
        assert isinstance(layer, _LAYERS)
        # (out, in / groups, kh, kw), transposed (in, out / groups, kh, kw), linear (out, in)
        places = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        macs += places.numel() * layer.weight[0].numel()
        bias_outputs += output.numel() if layer.bias is not None else 0

    for module in shapes.modules():
        if isinstance(module, _LAYERS):
            module.register_forward_hook(add)
    lr = torch.empty(1, COLOUR_COUNT[model.channels], *size, device="meta")
    with torch.no_grad():
        if of != "image" and isinstance(shapes, GradientNetwork):
            shapes.with_gradient(lr)
        else:
            shapes(lr)
    return Count(parameter_count(model), size, macs, bias_outputs)


def count_with_gradient(model: SRModel, *, size: tuple[int, int] = TABLE5_SIZE) -> Count | None:
    """Return what one pass costs with the SR gradient map; None for a network that makes none."""
    if not isinstance(model, GradientNetwork):
        return None
    _check_size(size)
    try:
        return count(model, size=size, of="image and gradient map")
    except InputError:  # it has the method, but was built without the branch
        return None


def measure(model: SRModel, *, size: tuple[int, int] = TABLE5_SIZE, repeats: int = 5) -> Measured:
    """Seconds and memory of enlarging one LR image of ``size``, colour included.

    Before the ``repeats`` that are timed one pass warms up and one more gives the memory.
    Raises InputError: too large an image for the memory.
    """
    _check_size(size)
    if repeats < 1:
        raise InputError(f"repeats is {repeats}; it must be at least 1.")
    first = next(model.parameters(), None)
    device = torch.device("cpu") if first is None else first.device
    try:
        lr = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(device)
        infer(model, lr)
        peak = _peak_bytes(model, lr)
    except (RuntimeError, MemoryError) as error:
        if "memory" not in str(error) and not isinstance(error, MemoryError):
            raise
        raise InputError(
            f"{type(model).__name__} and an image of {size[0]}x{size[1]} pixels do not fit into "
            "the memory; measure a smaller one, or only count."
        ) from error
    times = []
    for _ in range(repeats):
        _wait(device)
        start = time.perf_counter()
        infer(model, lr)
        _wait(device)
        times.append(time.perf_counter() - start)
    return Measured(
        size=size,
        seconds=statistics.median(times),
        fastest=min(times),
        slowest=max(times),
        repeats=repeats,
        threads=torch.get_num_threads(),
        device=device.type,
        peak_bytes=peak,
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _peak_bytes(model: SRModel, lr: Tensor) -> int | None:
    if lr.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(lr.device)
        before = torch.cuda.memory_allocated(lr.device)
        infer(model, lr)
        return torch.cuda.max_memory_allocated(lr.device) - before
    try:  # Linux counts a new peak from where it is told to
        library = ctypes.CDLL(None)
        if hasattr(library, "malloc_trim"):  # what is free would be taken again unseen
            library.malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = _status("VmRSS")
        infer(model, lr)
        return max(0, _status("VmHWM") - before) if lr.device.type == "cpu" else None
    except (OSError, TypeError, KeyError):
        return None


def _status(name: str) -> int:
    text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return 1024 * int(dict(re.findall(r"(\w+):\s+(\d+) kB", text))[name])


def _check_size(size: tuple[int, int]) -> None:
    if min(size) < 1:
        raise InputError(f"An image of {size[0]}x{size[1]} pixels has none; give e.g. 50x50.")
    if size[0] * size[1] > MOST_PIXELS:
        raise InputError(
            f"An image of {size[0]}x{size[1]} pixels is too large; give one of at most "
            f"{MOST_PIXELS:,} pixels, e.g. 50x50."
        )
