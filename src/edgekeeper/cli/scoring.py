"""What the commands that score share: their options, subjects, progress and tables."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekeeper.cli.options import (
    SCALES,
    Decorator,
    chosen_device,
    console,
    force_option,
    needed_data,
    network_or_folder,
)
from edgekeeper.errors import InputError

if TYPE_CHECKING:
    from edgekeeper.evaluation.tables import Table
    from edgekeeper.metrics.score import Score
    from edgekeeper.models import SRModel

DEFAULT_METRICS = "psnr,ssim,gradient_psnr,gv_ratio,gv_gap,gmsd"


def sets_option() -> Decorator:
    """Return the option ``--on`` for sets and folders of originals."""
    return click.option(
        "--on",
        "sets",
        default="set5",
        show_default=True,
        metavar="SETS",
        help="Benchmark sets, or folders of originals, with commas between.",
    )


def scale_option() -> Decorator:
    """Return the option ``--scale`` that networks make needless."""
    return click.option(
        "--scale", type=SCALES, help="Factor: 2, 3 or 4. Default: that of the networks."
    )


def protocol_option() -> Decorator:
    """Return the option ``--protocol``."""
    return click.option(
        "--protocol",
        default="y_matlab",
        show_default=True,
        help="How numbers are computed; see docs/protocols.md.",
    )


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


def json_option(text: str = "Write everything as JSON too.") -> Decorator:
    """Return the options ``--json FILE`` and ``--force``."""
    option = click.option("--json", "json_file", type=click.Path(path_type=Path), help=text)
    return lambda function: option(force_option()(function))


def repeats_option() -> Decorator:
    """Return the option ``--repeats``."""
    return click.option(
        "--repeats",
        type=click.IntRange(1),
        default=5,
        show_default=True,
        help="Passes of which the median is taken.",
    )


def sets_root(data: Path | None, *, sets: Sequence[str]) -> Path:
    """Return the folder of ``--data``; it may be missing where all sets are folders."""
    from edgekeeper.data.catalogue import names

    if data is None and all(Path(s).is_dir() and s.lower() not in names() for s in sets):
        return Path()
    return needed_data(data)


def weights_folder(weights: Path | None, *, data: Path) -> Path | None:
    """Return the folder of ``--weights``, else that inside the data folder, else None."""
    if weights is not None:
        if not weights.is_dir():
            raise InputError(f"--weights: there is no folder '{weights}'.")
        return weights
    return data / "weights" if (data / "weights").is_dir() else None


def subject_on(device: str, *, subject: str, scale: int | None = None) -> "SRModel | str | Path":
    """Return what to score, a network on the device that ``--device`` says.

    ``scale`` is for network files that do not say theirs.
    """
    found = network_or_folder(subject, scale=scale)
    if isinstance(found, str | Path):
        return found
    return found.to(chosen_device(device))


def known_scale(scale: int | None, *, subjects: "Sequence[SRModel | str | Path]") -> int:
    """Return the scale, or that of the networks; InputError when none or several are told."""
    from edgekeeper.models import SRModel

    if scale is not None:
        return scale
    scales = sorted({subject.scale for subject in subjects if isinstance(subject, SRModel)})
    if not scales:
        raise InputError("There is no network that says it: give the scale, --scale 2, 3 or 4.")
    if len(scales) > 1:
        raise InputError(
            f"One network enlarges by {scales[0]}, another by {scales[1]}; all must be of one "
            "scale."
        )
    return scales[0]


@contextmanager
def counted_scores(title: str) -> "Iterator[Callable[[Score], None]]":
    """Give what is to be called with each score: it shows how many there are."""
    from edgekeeper.progress import ProgressLine

    done = 0

    def count(score: "Score") -> None:
        nonlocal done
        done += 1
        line.update(done, text=f"{score.model} {score.set} {score.image}")

    with ProgressLine(title, total=0, unit="images") as line:
        yield count


def show_table(table: "Table") -> None:
    """Print the table, fitted to the terminal."""
    from edgekeeper.evaluation.tables import as_rich

    terminal = console()
    terminal.print(as_rich(table, width=terminal.width))
