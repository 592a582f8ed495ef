"""``edgekeeper reproduce``."""

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekeeper.cli.options import (
    PATH,
    check_new_file,
    chosen_device,
    data_option,
    device_option,
    force_option,
    needed_data,
    own_folder,
    split_names,
    split_numbers,
)
from edgekeeper.cli.scoring import (
    TableForm,
    counted_scores,
    form_option,
    sets_root,
    show_table,
    show_tables,
    subject_on,
    weights_folder,
    weights_option,
    write_json,
)
from edgekeeper.errors import InputError

if TYPE_CHECKING:
    from edgekeeper.data.store import Store
    from edgekeeper.papers.cells import Event
    from edgekeeper.papers.scored import Ours

FRONTIER = "structure-frontier"
SPEEDRUN = "speedrun"
TRAINED = ("gv-table1", "gv-table2", FRONTIER, SPEEDRUN)
MEASURED = (
    *("spsr-table1", "spsr-table2"),
    *("dgggan-table1", "dgggan-table2", "dgggan-table3", "dgggan-table4"),
)
COUNTED = "dgggan-table5"
# Measured, or with --store trained, too.
ABLATED = ("spsr-table2", "dgggan-table1", "dgggan-table2")
# The options that belong to one kind of table, by the name of their argument.
OF_TRAINED = (
    *("store", "start", "budget", "networks", "scales", "seeds", "protocol", "time_limit", "to"),
    "processes",
)
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
    type=PATH,
    help="Tables that are trained: a packed store, made by `edgekeeper data prepare`. With it "
    "spsr-table2, dgggan-table1 and dgggan-table2 are trained too.",
)
@click.option(
    "--start",
    metavar="NETWORK",
    help="spsr-table2 --budget paper: the trained RRDB from which its cells begin.",
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
    type=PATH,
    default=Path("runs/reproduce"),
    help="Folder for what is finished: trained cells, scores. It is used again.",
)
@click.option(
    "--budget",
    type=click.Choice(["quick", "standard", "paper"]),
    default="quick",
    help="Tables that are trained: how long each cell trains.",
)
@click.option(
    "--networks",
    metavar="NAMES",
    help="gv tables: only these, with commas between: vdsr, edsr, espcn. dgggan tables: half "
    "(design A, the default), lr (design B). speedrun: one of fast (default), vdsr, edsr.",
)
@click.option(
    "--scales", metavar="NUMBERS", help="gv tables: only these factors, with commas between."
)
@click.option(
    "--seeds",
    metavar="NUMBERS",
    help="gv tables: seeds, with commas between. Default: 0; of structure-frontier, 0,1,2.",
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
    help="gv tables: gv_repo (the paper's; needs a store made with --kernel pillow_bilinear) or "
    "y_matlab. Default: the paper's.",
)
@click.option(
    "--time-limit",
    type=click.FloatRange(0, min_open=True),
    metavar="MINUTES",
    help="Trained tables: stop after so long; the same command goes on.",
)
@click.option(
    "--to",
    type=float,
    metavar="DB",
    help="speedrun: end at this PSNR on Set5 x2. Default: 36.5, 37.5, 37.8 by network.",
)
@click.option(
    "--processes",
    type=click.IntRange(1),
    default=1,
    help="Trained tables: so many share the cells, each with its part of the processors.",
)
@form_option
@click.option("--json", "json_file", type=PATH, help="Write the table as JSON too.")
@force_option()
@data_option()
@weights_option
@device_option()
def reproduce_command(
    table: str, form: TableForm | None, json_file: Path | None, force: bool, **options: Any
) -> None:
    """Put ours beside the numbers that a paper's table prints.

    The gv tables and structure-frontier (structure terms against sharpening) are trained and scored
    cell by cell. The spsr and dgggan tables have a row of ours for bicubic and for each --ours;
    the ablations among them are trained with --store. dgggan-table5 is counted.
    """
    trained = table in TRAINED or (table in ABLATED and options["store"] is not None)
    kind = "trained" if trained else "counted" if table == COUNTED else "measured"
    _check_options(table, kind=kind)
    check_new_file(json_file, option="--json", force=force or kind == "trained")  # it goes on
    if kind == "trained":
        with _beside(options.pop("processes"), table, options):
            record = _train(table, options, form=form)
    elif kind == "counted":
        from edgekeeper.papers.costs import costs_as_json, costs_as_table, table5

        rows = table5()
        show_table(costs_as_table(rows), form)
        record = costs_as_json(rows)
    else:
        record = _measure(table, options, form=form)
    write_json(json_file, record, form=form)
    if record.get("unfinished"):
        left = ", ".join(record["unfinished"])
        click.echo(f"Still to do: {left}. The same command goes on.", err=form is not None)


def _check_options(table: str, *, kind: str) -> None:
    context = click.get_current_context()
    foreign = [*(OF_MEASURED if kind == "trained" else OF_TRAINED)]
    if kind == "trained" and table in (*ABLATED, FRONTIER):
        foreign.remove("weights")
    if kind == "counted":
        foreign += [*OF_MEASURED, *OF_BOTH]
    for parameter in context.command.params:
        given = context.get_parameter_source(str(parameter.name))
        if parameter.name in foreign and given == click.core.ParameterSource.COMMANDLINE:
            raise InputError(f"{table} is {kind}: {parameter.opts[-1]} is not for it.")


@contextmanager
def _beside(processes: int, table: str, options: dict[str, Any]) -> Iterator[None]:
    """Within the block others train and score the same table, sharing the processors with us."""
    if processes == 1:
        yield
        return
    if table == SPEEDRUN:
        raise InputError("A speedrun is one training: --processes is not for it.")
    import torch

    threads = max(1, torch.get_num_threads() // processes)
    context = multiprocessing.get_context("spawn")
    others = [
        context.Process(target=_train_quietly, args=(threads, table, options))
        for _ in range(1, processes)
    ]
    torch.set_num_threads(threads)
    for other in others:
        other.start()
    try:
        yield
    except BaseException:
        for other in others:
            other.terminate()  # which saves and stops
        raise
    finally:
        for other in others:
            other.join()


def _train_quietly(threads: int, table: str, options: dict[str, Any]) -> None:
    import torch

    torch.set_num_threads(threads)
    # A Ctrl-C in the terminal comes here too.
    with suppress(KeyboardInterrupt), Path(os.devnull).open("w") as out, redirect_stdout(out):
        _train(table, options, form=None)


def _train(table: str, options: dict[str, Any], *, form: TableForm | None) -> dict[str, Any]:
    chosen = {name: options[name] for name in ("out", "budget")}
    if names := options["networks"]:
        chosen["networks"] = split_names(names)
    for name in ("scales", "seeds"):
        if options[name]:
            chosen[name] = split_numbers(f"--{name}", options[name])
    if minutes := options["time_limit"]:
        chosen["time_limit"] = minutes * 60
    chosen["device"] = chosen_device(options["device"])
    if options["store"] is None:
        raise InputError(f"{table} is trained: give a packed store with --store.")
    sets = split_names(options["sets"] or "set5,set14")
    root = sets_root(options["data"], sets=sets)
    from edgekeeper.data.store import Store
    from edgekeeper.papers.frontier import frontier_tables, structure_frontier
    from edgekeeper.papers.training import reproduce, reproduction_table
    from edgekeeper.pretrained.zoo import find

    own_folder(chosen["out"])
    if table == FRONTIER and "scales" in chosen:
        raise InputError("structure-frontier is at x4: --scales is not for it.")
    store, weights = Store.open(options["store"]), weights_folder(options["weights"], data=root)
    if table == SPEEDRUN:
        return _speedrun(store, root=root, to=options["to"], form=form, chosen=chosen)
    if table == FRONTIER:
        frontier = structure_frontier(
            store=store, data_root=root, sets=sets, weights=weights, on_event=_say_event, **chosen
        )
        show_tables(frontier_tables(frontier), form)
        return asdict(frontier)
    found = reproduce(
        table.replace("-", "_"),  # type: ignore[arg-type]
        store=store,
        data_root=root,
        weights=weights,
        start=None if options["start"] is None else find(options["start"]),
        sets=sets,
        protocol=options["protocol"],
        on_event=_say_event,
        **chosen,
    )
    if found.rows:
        show_table(reproduction_table(found), form)
    return found.to_json()


def _speedrun(
    store: "Store", *, root: Path, to: float | None, form: TableForm | None, chosen: dict[str, Any]
) -> dict[str, Any]:
    from edgekeeper.papers.speedrun import run_speedrun, speedrun_table
    from edgekeeper.recipes.speedrun import GOALS

    (network, *more) = chosen.get("networks", ["fast"])
    if network not in GOALS or more:
        raise InputError(f"--networks: a speedrun is of one network, of {', '.join(GOALS)}.")
    asked: dict[str, Any] = {key: chosen.get(key) for key in ("out", "device", "time_limit")}
    record = run_speedrun(network, store, data_root=root, goal=to, **asked)
    show_table(speedrun_table(record), form)
    return record


def _say_event(event: "Event") -> None:
    click.echo(f"[{event.number}/{event.cells}] {event.cell}: {event.what}", err=True)


def _measure(table: str, options: dict[str, Any], *, form: TableForm | None) -> dict[str, Any]:
    from edgekeeper.papers.measured import as_tables, beside

    data, sets, ours = options["data"], options["sets"], options["ours"]
    root = needed_data(data) if data is not None or ours or sets else None
    rows = [_ours(text, device=options["device"]) for text in ours]
    with counted_scores("scoring") as count:
        found = beside(
            table,
            ours=rows,
            data_root=root,
            sets=split_names(sets) if sets else None,
            weights=None if root is None else weights_folder(options["weights"], data=root),
            out=None if root is None else own_folder(options["out"]),
            on_image=count,
        )
    show_tables(as_tables(found), form)
    click.echo()
    return found.to_json()


def _ours(text: str, *, device: str) -> "Ours":
    from edgekeeper.papers.scored import Ours, files_key
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
