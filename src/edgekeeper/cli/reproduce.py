"""``edgekeeper reproduce``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekeeper.cli.options import (
    check_new_file,
    chosen_device,
    console,
    data_option,
    device_option,
    force_option,
    needed_data,
    own_folder,
    split_names,
    split_numbers,
)
from edgekeeper.cli.scoring import subject_on, weights_folder, weights_option
from edgekeeper.errors import InputError
from edgekeeper.files import write_text

if TYPE_CHECKING:
    from edgekeeper.papers import Ours

TRAINED = ("gv-table1", "gv-table2")
MEASURED = (
    *("spsr-table1", "spsr-table2"),
    *("dgggan-table1", "dgggan-table2", "dgggan-table3", "dgggan-table4"),
)
COUNTED = "dgggan-table5"
# The options that belong to one kind of table, by the name of their argument.
OF_TRAINED = ("store", "budget", "networks", "scales", "seeds", "protocol", "time_limit")
OF_MEASURED = ("ours", "weights")
OF_BOTH = ("sets", "data", "out", "device")  # not of the table that is counted


@click.command(
    "reproduce",
    epilog="Example: edgekeeper reproduce dgggan-table3 --ours DGGGAN=mine.safetensors "
    "--ours RCAN=results/RCAN --on set5",
)
@click.argument("table", type=click.Choice([*TRAINED, *MEASURED, COUNTED]))
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    help="gv tables: a packed store, made by `edgekeeper data prepare`.",
)
@click.option(
    "--ours",
    multiple=True,
    metavar="NAME=SUBJECT",
    help="spsr and dgggan tables: a row of ours, again for more. NAME is the printed row that it "
    "stands for, or another; SUBJECT is a network (name or file) or a folder of results.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs/reproduce"),
    show_default=True,
    help="Folder for what is finished: trained cells, scores. It is used again.",
)
@click.option(
    "--budget",
    type=click.Choice(["quick", "standard", "paper"]),
    default="quick",
    show_default=True,
    help="gv tables: how long each cell trains.",
)
@click.option(
    "--networks",
    metavar="NAMES",
    help="gv tables: only these, with commas between: vdsr, edsr, espcn.",
)
@click.option(
    "--scales", metavar="NUMBERS", help="gv tables: only these factors, with commas between."
)
@click.option(
    "--seeds", default="0", show_default=True, help="gv tables: seeds, with commas between."
)
@click.option(
    "--on",
    "sets",
    metavar="SETS",
    help="Benchmark sets. Default: set5,set14 for the gv tables, else those of the table that are "
    "in --data.",
)
@click.option(
    "--protocol",
    default="gv_repo",
    show_default=True,
    help="gv tables: gv_repo (the paper's; needs a store made with --kernel pillow_bilinear) or "
    "y_matlab.",
)
@click.option(
    "--time-limit",
    type=click.FloatRange(0, min_open=True),
    metavar="MINUTES",
    help="gv tables: stop after so long; the same command goes on.",
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the table as JSON too."
)
@force_option()
@data_option()
@weights_option()
@device_option()
@click.pass_context
def command(
    context: click.Context,
    table: str,
    store: Path | None,
    ours: tuple[str, ...],
    out: Path,
    budget: str,
    networks: str | None,
    scales: str | None,
    seeds: str,
    sets: str | None,
    protocol: str,
    time_limit: float | None,
    json_file: Path | None,
    force: bool,
    data: Path | None,
    weights: Path | None,
    device: str,
) -> None:
    """Put ours beside the numbers that a paper's table prints.

    The gv tables are trained and scored cell by cell. The spsr and dgggan tables have a row of
    ours for bicubic and for each --ours; dgggan-table5 is counted.
    """
    _check_options(context, table)
    check_new_file(json_file, option="--json", force=force or table in TRAINED)  # they go on
    if table in TRAINED:
        if store is None:
            raise InputError(f"{table} is trained: give a packed store with --store.")
        record = _train(
            table,
            store,
            out=out,
            budget=budget,
            networks=networks,
            scales=scales,
            seeds=seeds,
            sets=sets or "set5,set14",
            protocol=protocol,
            time_limit=time_limit,
            data=data,
            device=device,
        )
    elif table == COUNTED:
        record = _count()
    else:
        record = _measure(
            table, ours, out=out, sets=sets, data=data, weights=weights, device=device
        )
    if json_file is not None:
        write_text(json_file, json.dumps(record, indent=1) + "\n")
        click.echo(f"Wrote {json_file}")
    if record.get("unfinished"):
        names = ", ".join(map(str, record["unfinished"]))  # type: ignore[call-overload]
        click.echo(f"Still to do: {names}. The same command goes on.")


def _check_options(context: click.Context, table: str) -> None:
    """Raise InputError for an option that the table does not have."""
    foreign = [*(OF_MEASURED if table in TRAINED else OF_TRAINED)]
    if table == COUNTED:
        foreign += [*OF_MEASURED, *OF_BOTH]
    for parameter in context.command.params:
        given = context.get_parameter_source(str(parameter.name))
        if parameter.name in foreign and given == click.core.ParameterSource.COMMANDLINE:
            kind = "trained" if table in TRAINED else "counted" if table == COUNTED else "measured"
            raise InputError(f"{table} is {kind}: {parameter.opts[-1]} is not for it.")


def _train(
    table: str,
    store: Path,
    *,
    out: Path,
    budget: str,
    networks: str | None,
    scales: str | None,
    seeds: str,
    sets: str,
    protocol: str,
    time_limit: float | None,
    data: Path | None,
    device: str,
) -> dict[str, object]:
    """Train and score the cells of a table of the gradient variance paper."""
    root = needed_data(data)
    from edgekeeper.data.store import Store
    from edgekeeper.evaluation.tables import as_rich, reproduction_table
    from edgekeeper.papers import reproduce

    found = reproduce(
        table.replace("-", "_"),  # type: ignore[arg-type]
        store=Store.open(store),
        data_root=root,
        out=own_folder(out),
        budget=budget,  # type: ignore[arg-type]
        networks=split_names(networks) if networks else None,  # type: ignore[arg-type]
        scales=split_numbers("--scales", scales) if scales else None,  # type: ignore[arg-type]
        seeds=split_numbers("--seeds", seeds),
        sets=split_names(sets),
        protocol=protocol,
        device=chosen_device(device),
        time_limit=time_limit * 60 if time_limit else None,
        on_event=lambda event: click.echo(
            f"[{event.number}/{event.cells}] {event.cell}: {event.what}", err=True
        ),
    )
    if found.rows:
        shown = reproduction_table(
            found.plain_rows(),
            title=f"{table}, budget {budget}",
            protocol=protocol,
            notes=found.notes,
        )
        console().print(as_rich(shown))
    return found.to_json()


def _measure(
    table: str,
    ours: tuple[str, ...],
    *,
    out: Path,
    sets: str | None,
    data: Path | None,
    weights: Path | None,
    device: str,
) -> dict[str, object]:
    """Score the rows of ours, and bicubic, beside the printed ones."""
    from edgekeeper.evaluation.evaluate import Score
    from edgekeeper.evaluation.tables import as_rich
    from edgekeeper.papers import as_tables, beside
    from edgekeeper.progress import ProgressLine

    root = needed_data(data) if data is not None or ours or sets else None
    rows = [_ours(text, device=device) for text in ours]
    with ProgressLine("scoring", total=0, unit="images") as line:
        done: list[Score] = []

        def show(score: Score) -> None:
            done.append(score)
            line.update(len(done), text=f"{score.model} {score.set} {score.image}")

        found = beside(
            table,
            ours=rows,
            data_root=root,
            sets=split_names(sets) if sets else None,
            weights=None if root is None else weights_folder(weights, data=root),
            out=None if root is None else own_folder(out),
            on_image=show,
        )
    for shown in as_tables(found):
        console().print(as_rich(shown), "")
    return found.to_json()


def _ours(text: str, *, device: str) -> "Ours":
    """Return the row that ``NAME=SUBJECT`` asks for."""
    from edgekeeper.papers import Ours, files_key
    from edgekeeper.pretrained.zoo import find

    name, equals, subject = text.partition("=")
    if not (name.strip() and equals and subject.strip()):
        raise InputError(
            f"--ours is '{text}'; give NAME=SUBJECT, such as DGGGAN=mine.safetensors or "
            "RCAN=results/RCAN."
        )
    source = subject_on(device, subject=subject.strip())
    if source == "bicubic":
        raise InputError("Bicubic is always measured; give --ours networks or folders of results.")
    path = Path(subject.strip())
    return Ours(name.strip(), source, key=files_key(path if path.is_dir() else find(path)))


def _count() -> dict[str, object]:
    """Count the networks of Table 5."""
    from edgekeeper.evaluation.tables import as_rich
    from edgekeeper.papers import costs_as_json, costs_as_table, table5

    rows = table5()
    console().print(as_rich(costs_as_table(rows)))
    return costs_as_json(rows)
