"""``edgekeeper reproduce``."""

import json
from pathlib import Path

import click

from edgekeeper.cli.options import (
    chosen_device,
    console,
    data_option,
    device_option,
    needed_data,
    own_folder,
    split_names,
    split_numbers,
)

TABLES = ("gv-table1", "gv-table2")


@click.command(
    "reproduce",
    epilog="Example: edgekeeper reproduce gv-table1 --store photos.store --budget quick "
    "--networks espcn --scales 3 --protocol y_matlab",
)
@click.argument("table", type=click.Choice(TABLES))
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    required=True,
    help="A packed store, made by `edgekeeper data prepare`.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs/reproduce"),
    show_default=True,
    help="Folder for the cells; finished cells are kept.",
)
@click.option(
    "--budget",
    type=click.Choice(["quick", "standard", "paper"]),
    default="quick",
    show_default=True,
    help="How long each cell trains.",
)
@click.option(
    "--networks", metavar="NAMES", help="Only these, with commas between: vdsr, edsr, espcn."
)
@click.option("--scales", metavar="NUMBERS", help="Only these factors, with commas between.")
@click.option("--seeds", default="0", show_default=True, help="Seeds, with commas between.")
@click.option(
    "--on", "sets", default="set5,set14", show_default=True, metavar="SETS", help="Benchmark sets."
)
@click.option(
    "--protocol",
    default="gv_repo",
    show_default=True,
    help="gv_repo (the paper's; needs a store made with --kernel pillow_bilinear) or y_matlab.",
)
@click.option(
    "--time-limit",
    type=click.FloatRange(0, min_open=True),
    metavar="MINUTES",
    help="Stop after so long; the same command goes on.",
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the table as JSON too."
)
@data_option()
@device_option()
def command(
    table: str, store: Path, out: Path, budget: str, networks: str | None, scales: str | None,
    seeds: str, sets: str, protocol: str, time_limit: float | None, json_file: Path | None,
    data: Path | None, device: str,
) -> None:  # fmt: skip
    """Train and score the rows of a paper's table, beside the numbers the paper prints."""
    root = needed_data(data)
    from edgekeeper.data.store import Store
    from edgekeeper.reproduce import reproduce
    from edgekeeper.tables import as_rich, reproduction_table

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
            found.plain_rows(), title=f"{table}, budget {budget}", protocol=protocol,
            notes=found.notes,
        )  # fmt: skip
        console().print(as_rich(shown))
    if json_file is not None:
        json_file.write_text(json.dumps(found.to_json(), indent=1) + "\n", encoding="utf-8")
        click.echo(f"Wrote {json_file}")
    if found.unfinished:
        click.echo(f"Still to do: {', '.join(found.unfinished)}. The same command goes on.")
