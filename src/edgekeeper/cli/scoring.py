"""Options that the commands which score share."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekeeper.cli.options import Decorator, chosen_device, network_or_folder
from edgekeeper.errors import InputError

if TYPE_CHECKING:
    from edgekeeper.models import SRModel

DEFAULT_METRICS = "psnr,ssim,gradient_psnr,gv_ratio,gv_gap,gmsd"


def metrics_option() -> Decorator:
    """Return the option ``--metrics``."""
    return click.option(
        "--metrics",
        default=DEFAULT_METRICS,
        show_default=True,
        metavar="NAMES",
        help="What to print, with commas between; also lpips, niqe, ma and pi, which take seconds "
        "an image and need weight files.",
    )


def weights_option() -> Decorator:
    """Return the option ``--weights``."""
    return click.option(
        "--weights",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        help="Where the weight files of lpips, niqe and ma lie. Default: the folder weights of "
        "--data.",
    )


def weights_folder(weights: Path | None, *, data: Path) -> Path | None:
    """Return the folder of ``--weights``, else that inside the data folder, else None."""
    if weights is not None:
        if not weights.is_dir():
            raise InputError(f"--weights: there is no folder '{weights}'.")
        return weights
    return data / "weights" if (data / "weights").is_dir() else None


def subject_on(device: str, *, subject: str) -> "SRModel | str | Path":
    """Return what to score, a network on the device that ``--device`` says."""
    found = network_or_folder(subject)
    if isinstance(found, str | Path):
        return found
    return found.to(chosen_device(device))
