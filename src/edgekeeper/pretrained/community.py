"""Networks of some forty architectures, through spandrel (MIT; extra ``community``).

spandrel tells the architecture from the names in a file, pads to the sizes that it allows (by
reflection) and crops again. The file is read here, without running code in it; spandrel is given
the tensors alone. spandrel needs torchvision, in the version that belongs to torch.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgekeeper.errors import CheckpointError, UnavailableError
from edgekeeper.models import SRModel
from edgekeeper.pretrained.checkpoint import some_of
from edgekeeper.pretrained.published import read_plain

# How far these networks look is not known. With 64 LR pixels the deepest that was measured, an
# RRDB of 23 blocks, has all but 1.3 grey levels (edgekeeper.models.rrdb).
OVERLAP = 64
# What spandrel's builders raise on entries that have the right names and wrong shapes.
_UNFIT = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError)


class CommunityModel(SRModel):
    """A network that spandrel runs, for images in RGB or, if it takes one channel, in luma.

    For use only: it cannot be trained, its results are clamped to [0, 1], and it has no
    ``features``. ``multiple``: tiles that start at multiples of it give the image as a whole.
    """

    def __init__(self, descriptor: Any) -> None:  # spandrel's ImageModelDescriptor
        super().__init__()
        self.scale = descriptor.scale
        self.channels = "y" if descriptor.input_channels == 1 else "rgb"
        self.receptive_field = OVERLAP
        self.multiple = descriptor.size_requirements.multiple_of
        self.network = descriptor.model
        self._run = descriptor

    def forward(self, lr: Tensor) -> Tensor:
        """Return the SR batch (B, C, scale·H, scale·W), clamped, without a gradient.

        Luma networks are trained on grey values in [0, 1], but luma here is 16/255 to 235/255.
        """
        images = lr if self.channels == "rgb" else (lr * 255 - 16) / 219
        # Only spandrel knows who can work in bfloat16.
        allowed = self._run.supports_bfloat16 and torch.is_autocast_enabled(lr.device.type)
        with torch.autocast(lr.device.type, torch.bfloat16, enabled=allowed):
            sr = torch.cat([self._run(one[None]) for one in images])
        return sr if self.channels == "rgb" else (sr * 219 + 16) / 255


def load_community(path: str | Path) -> CommunityModel:
    """Load by spandrel, float32, CPU, to evaluate. Raises CheckpointError, UnavailableError."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"There is no file '{path}'.")
    try:
        import spandrel
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"Networks of other programs need spandrel, and '{error.name}' is not installed: "
            "pip install 'edgekeeper[community]'."
        ) from error
    except (ImportError, RuntimeError) as error:
        raise UnavailableError(
            f"spandrel does not start ({str(error).splitlines()[0]}). It needs the torchvision "
            f"that belongs to torch {torch.__version__}; install that one."
        ) from error
    loaded = read_plain(path)
    if not isinstance(loaded, dict):
        raise CheckpointError(f"'{path}' does not hold a state dict of named tensors.")
    state = spandrel.canonicalize_state_dict(loaded)
    try:
        found = spandrel.ModelLoader(device="cpu").load_from_state_dict(state)
    except spandrel.UnsupportedModelError as error:
        raise CheckpointError(
            f"'{path}' holds no network that spandrel {spandrel.__version__} knows: its "
            f"{len(state)} entries are {some_of(sorted(map(str, state)))}."
        ) from error
    except _UNFIT as error:
        raise CheckpointError(
            f"'{path}' has the names of a network that spandrel knows, but not its shapes: "
            f"{' '.join(str(error).split())[:300] or type(error).__name__}"
        ) from error
    _check_purpose(found, origin=path)
    return CommunityModel(found).float().eval()


def _check_purpose(found: Any, *, origin: Path) -> None:
    """Raise CheckpointError unless the network makes a larger image of the same colours."""
    purpose, scale = getattr(found, "purpose", "unknown"), getattr(found, "scale", 1)
    title = getattr(getattr(found, "architecture", None), "name", type(found).__name__)
    if purpose not in ("SR", "FaceSR") or scale < 2:
        raise CheckpointError(
            f"'{origin}' is a {title} for {purpose} at scale {scale}: it does not enlarge, and "
            "edgekeeper runs networks that do."
        )
    colours = (getattr(found, "input_channels", 0), getattr(found, "output_channels", 0))
    if colours not in ((1, 1), (3, 3)):
        raise CheckpointError(
            f"'{origin}' is a {title} with {colours[0]} channels in and {colours[1]} out; "
            "edgekeeper runs networks on RGB or on one grey channel."
        )
