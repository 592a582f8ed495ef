"""Super-resolution that keeps structure: train, measure and run networks that keep edges in place.

    import edgekeeper
    large = edgekeeper.upscale("photo.jpg", scale=4)     # an Image; arrays give arrays
    large.save("large.png")
    model = edgekeeper.load("edsr_light_x4")             # a torch.nn.Module

Importing the package loads no torch; the names below are loaded when they are first used.
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekeeper import data, losses, metrics, models, ops, recipes
    from edgekeeper.evaluation.evaluate import evaluate
    from edgekeeper.image import Image, read_image, write_image
    from edgekeeper.inference.api import upscale
    from edgekeeper.pretrained.zoo import load

__version__ = "0.1.0"

if "pyvips" not in sys.modules:  # libvips reads this when it starts: see edgekeeper.image
    os.environ.setdefault("VIPS_WARNING", "1")

_HOME = {
    "Image": "image",
    "evaluate": "evaluation.evaluate",
    "load": "pretrained.zoo",
    "read_image": "image",
    "upscale": "inference.api",
    "write_image": "image",
}
_PACKAGES = ("data", "losses", "metrics", "models", "ops", "recipes")

__all__ = [
    "Image",
    "data",
    "evaluate",
    "load",
    "losses",
    "metrics",
    "models",
    "ops",
    "read_image",
    "recipes",
    "upscale",
    "write_image",
]


def __getattr__(name: str) -> object:
    """Return a public name, imported now."""
    if name in _HOME:
        return getattr(importlib.import_module(f"edgekeeper.{_HOME[name]}"), name)
    if name in _PACKAGES:
        return importlib.import_module(f"edgekeeper.{name}")
    raise AttributeError(f"module 'edgekeeper' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
