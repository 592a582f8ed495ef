"""What the commands that score share: their options, subjects, progress and tables."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from edgekeeper.cli.options import (
    PATH,
    SCALES,
    Decorator,
    chosen_device,
    console,
    data_option,
    device_option,
    needed_data,
    new_file_option,
    split_names,
)
from edgekeeper.errors import InputError
from edgekeeper.files import write_text

if TYPE_CHECKING:
    from edgekeeper.evaluation.tables import Table
    from edgekeeper.metrics import Protocol
    from edgekeeper.metrics.score import Score
    from edgekeeper.models import SRModel

DEFAULT_METRICS = "psnr,ssim,gradient_psnr,gv_ratio,gv_gap,gmsd"

protocol_option = click.option(
    "--protocol", default="y_matlab", help="How numbers are computed; see docs/protocols.md."
)
weights_option = click.option(
    "--weights",
    type=PATH,
    metavar="FOLDER",
    help="Where the weight files of lpips, niqe and ma lie. Default: the folder weights of --data.",
)
repeats_option = click.option(
    "--repeats", type=click.IntRange(1), default=5, help="Passes of which the median is taken."
)


def json_option(text: str = "Write everything as JSON too.") -> Decorator:
    """Return the option ``--json FILE``, a new file, with ``--force``."""
    return new_file_option(("--json", "json_file"), text=text)


@dataclass(frozen=True)
class Scoring:
    """What the options of ``scoring_options`` say, looked up; opens what is to be scored."""

    sets: list[str]
    root: Path
    scale: int | None
    protocol: "Protocol"
    metrics: tuple[str, ...]
    weights: Path | None
    device: str

    def open(self, subject: str) -> "SRModel | str | Path":
        """Return what to score: "bicubic", a folder, or a network on the device."""
        return subject_on(self.device, subject=subject, scale=self.scale)

    def scale_of(self, subjects: "Sequence[SRModel | str | Path]") -> int:
        """Return the scale, or that of the networks; InputError when none or several are told."""
        from edgekeeper.models import SRModel

        if self.scale is not None:
            return self.scale
        scales = sorted({subject.scale for subject in subjects if isinstance(subject, SRModel)})
        if len(scales) != 1:
            found = " and ".join(map(str, scales)) or "nothing"
            raise InputError(f"All are of one scale: give --scale 2, 3 or 4; networks say {found}.")
        return scales[0]


def scoring_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command ``--on``, ``--scale``, ``--protocol``, ``--metrics`` ... as a ``Scoring``."""

    @wraps(function)
    def run(
        sets: str,
        scale: int | None,
        protocol: str,
        metrics: str,
        data: Path | None,
        weights: Path | None,
        device: str,
        **own: Any,
    ) -> None:
        from edgekeeper.metrics import find_protocol
        from edgekeeper.metrics.score import find_metrics

        names = split_names(sets)
        root = Path() if own.get("inputs") else sets_root(data, sets=names)  # or without --on
        asked, conditions = find_metrics(split_names(metrics)), find_protocol(protocol)
        folder = weights_folder(weights, data=root)
        function(scoring=Scoring(names, root, scale, conditions, asked, folder, device), **own)

    command: Callable[..., None] = run
    for option in (
        device_option(),
        weights_option,
        data_option(),
        click.option(
            "--metrics",
            default=DEFAULT_METRICS,
            metavar="NAMES",
            help="What to print, with commas between; also lpips, dists, fsim, niqe, "
            "niqe_rgb2gray, niqe_stored, ma and pi, which take seconds an image and need files.",
        ),
        protocol_option,
        click.option(
            "--scale", type=SCALES, help="Factor: 2, 3 or 4. Default: that of the networks."
        ),
        click.option(
            "--on",
            "sets",
            default="set5",
            metavar="SETS",
            help="Benchmark sets, or folders of originals, with commas between.",
        ),
    ):
        command = option(command)
    return command


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
    """Return what to score, a network on the device that ``--device`` says."""
    from edgekeeper.evaluation.evaluate import find_subject

    found = find_subject(subject, scale=scale)
    return found if isinstance(found, str | Path) else found.to(chosen_device(device))


@contextmanager
def counted_scores(title: str) -> "Iterator[Callable[[Score], None]]":
    """Give what is to be called with each score: it shows how many there are."""
    from edgekeeper.training.progress import ProgressLine

    done = 0

    def count(score: "Score") -> None:
        nonlocal done
        done += 1
        line.update(done, text=f"{score.model} {score.set} {score.image}")

    with ProgressLine(title, total=None, unit="images", piped_every=60) as line:
        yield count


TableForm = Literal["csv", "latex", "markdown"]

form_option = click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "latex", "markdown"]),
    help="How tables are printed; LaTeX with booktabs, the best bold, the second underlined. "
    "Default: for the terminal.",
)


def show_table(table: "Table", form: TableForm | None = None) -> None:
    """Print the table, fitted to the terminal, or in one of the forms of text."""
    show_tables([table], form)


def show_tables(tables: "Sequence[Table]", form: TableForm | None = None) -> None:
    """Print tables with an empty line between, but as one CSV."""
    from edgekeeper.evaluation.tables import TABLE_FORMS, as_csv, as_rich

    terminal = console()
    if form == "csv":
        click.echo(as_csv(tables[0], tables[1:]))
        return
    for number, table in enumerate(tables):
        if number:
            click.echo()
        if form is not None:
            click.echo(TABLE_FORMS[form](table))
        else:
            terminal.print(as_rich(table, width=terminal.width))


def write_json(path: Path | None, content: object, *, form: TableForm | None = None) -> None:
    """Write what ``json_option`` asks for, if it does, and say so."""
    if path is not None:
        write_text(path, json.dumps(content, indent=1) + "\n")
        say_written(path, form=form)


def say_written(what: object, *, form: TableForm | None = None) -> None:
    """Say what was written; beside a table in a form for programs on standard error."""
    click.echo(f"Wrote {what}", err=form is not None)
