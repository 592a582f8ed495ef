"""``edgekeeper serve``: the page and its HTTP API."""

import contextlib
import http.client
import ipaddress
import itertools
import os
import re
import secrets
import shlex
import socket
import sys
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import psutil

from edgekeeper.cli.options import chosen_device, device_option
from edgekeeper.errors import InputError, UnavailableError
from edgekeeper.files import user_cache

LOOPBACK = ("127.0.0.1", "localhost", "::1")

_DESKTOP = """[Desktop Entry]
Type=Application
Name=edgekeeper
Comment=Enlarge photographs
Comment[de]=Fotos vergrößern
Exec={command}
Icon={icon}
Terminal=true
Categories=Graphics;
"""
_COMMAND = "#!/bin/sh\nexec {command}\n"
_BATCH = "@echo off\nchcp 65001 >nul\n{command}\nif errorlevel 1 pause\n"


@click.command("serve", epilog="Example: edgekeeper serve")
@click.option(
    "--host",
    default="127.0.0.1",
    help="Address to listen on. Others than this machine's own need --token.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8780,
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--token", envvar="EDGEKEEPER_TOKEN", help="What a request must show; 'new' makes one."
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where images and results are kept. Default: ~/.cache/edgekeeper/serve.",
)
@click.option("--browser/--no-browser", default=True, help="Whether to open the page in a browser.")
@click.option(
    "--max-upload",
    type=click.IntRange(1),
    default=500,
    metavar="MB",
    help="Largest file that is taken.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(1),
    default=400,
    metavar="MEGAPIXELS",
    help="Largest image and result.",
)
@click.option("--queue", type=click.IntRange(1), default=1000, help="Most jobs that wait.")
@click.option(
    "--shortcut",
    is_flag=True,
    help="Put an icon among the programs (macOS: on the desktop) that starts this, and end.",
)
@device_option()
@click.pass_context
def serve_command(
    context: click.Context,
    host: str,
    port: int,
    token: str | None,
    folder: Path | None,
    browser: bool,
    max_upload: int,
    max_pixels: int,
    queue: int,
    shortcut: bool,
    device: str,
) -> None:
    """Open a page to enlarge images on: drop them, choose how large, compare, download.

    Without --host nothing leaves this machine. The page uses an HTTP API, which /api describes.
    """
    if shortcut:
        source = click.core.ParameterSource.COMMANDLINE
        given = {name for name in context.params if context.get_parameter_source(name) is source}
        if given != {"shortcut"}:
            raise InputError("--shortcut stands alone: its icon starts the page without options.")
        path = write_shortcut(Path.home())
        click.echo(f"{path}: a click on it opens the page; closing its window ends it.")
        return
    with need_web("serve"):
        from edgekeeper.server.app import create_app
    from edgekeeper.server.service import Limits, Service

    if token is not None and not re.fullmatch(r"[A-Za-z0-9._~-]+", token):
        raise InputError(
            "--token holds letters, digits, '.', '_', '~' and '-', so that it can stand in an "
            "address; say --token new to get one."
        )
    if host not in LOOPBACK and token is None:
        raise InputError(
            f"With --host {host} other machines can reach the page; say --token new, and only "
            "who has the address that is printed then is answered."
        )
    token = secrets.token_urlsafe(18) if token == "new" else token
    if browser and (running := _running(host, port)):  # the icon was clicked again
        click.echo(f"{running} is open already.")
        webbrowser.open(running)
        return
    with listen_on(host, port) as listening:
        service = Service(
            folder=folder or user_cache() / "serve",
            # Asking torch takes seconds; for "auto" the process that computes does it.
            device=device if device in ("auto", "cpu") else chosen_device(device),
            limits=Limits(upload=max_upload * 10**6, pixels=max_pixels * 10**6, waiting=queue),
        )
        shown = [f"{one}/" + (f"?token={token}" if token else "") for one in origins(listening)]
        click.echo("\n".join([*shown, f"Ctrl-C ends it. Images and results: {service.folder}"]))
        if host not in LOOPBACK:
            click.echo(
                "Whoever reaches this machine and has the token sees all images here and can add "
                "some. The connection is not encrypted: outside a trusted network put a server "
                "with TLS before it."
            )
        if browser:
            webbrowser.open(shown[0])
        run_server(create_app(service, token=token), listening)


@contextlib.contextmanager
def need_web(command: str) -> Iterator[None]:
    """Say what to install where a package of the extra ``web`` is imported and is not there."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"`edgekeeper {command}` needs {error.name}: pip install 'edgekeeper[web]'"
        ) from error


def run_server(app: Any, listening: socket.socket) -> None:
    """Answer requests with an ASGI application until Ctrl-C."""
    import uvicorn

    from edgekeeper.server.guard import ImpatientProtocol

    config = uvicorn.Config(
        app,
        http=ImpatientProtocol,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    uvicorn.Server(config).run(sockets=[listening])


def _running(host: str, port: int) -> str | None:
    """Return the address of the server that this user's icon started before, if it answers."""
    if host not in LOOPBACK or not port:
        return None
    asked = http.client.HTTPConnection(host, port, timeout=2)
    with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
        asked.request("GET", "/api/v1/status")
        if b"most_waiting" in asked.getresponse().read(10_000):
            return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
    return None


def listen_on(host: str, port: int) -> socket.socket:
    """Return a socket that listens; InputError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    if host == "::":  # IPv4 too, which Windows does not do by itself
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    if os.name != "nt":  # where it would let two servers share a port
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)  # before the browser is opened: it waits instead of being refused
    except OSError as error:
        listening.close()
        raise InputError(
            f"{host} port {port} cannot be listened on: {(error.strerror or str(error)).lower()}. "
            "Give another with --port, or 0 for a free one."
        ) from error
    return listening


def origins(listening: socket.socket) -> list[str]:
    """Return what addresses of pages begin with: where it listens, or all that reach it there.

    Of all addresses (0.0.0.0, ::) those are this machine's own and then what others can open.
    """
    bound, port = listening.getsockname()[:2]
    hosts = [ipaddress.ip_address(bound)]
    if hosts[0].is_unspecified:
        hosts = [ipaddress.ip_address("127.0.0.1")]
        kinds = (socket.AF_INET, listening.family)
        for known in itertools.chain(*psutil.net_if_addrs().values()):
            if known.family in kinds:
                found = ipaddress.ip_address(known.address.partition("%")[0])
                hosts += [] if found.is_loopback or found.is_link_local else [found]
    return [
        f"http://[{one}]:{port}" if one.version == 6 else f"http://{one}:{port}" for one in hosts
    ]


def write_shortcut(home: Path, *, system: str = sys.platform, python: str = sys.executable) -> Path:
    """Write the icon to where the system lists programs (macOS: to the desktop); returns it."""
    ends = ["-m", "edgekeeper", "serve"]
    if system == "win32":
        path = home / "AppData/Roaming/Microsoft/Windows/Start Menu/Programs/edgekeeper.bat"
        doubled = python.replace("%", "%%")
        text = _BATCH.format(command=" ".join([f'"{doubled}"', *ends])).replace("\n", "\r\n")
    elif system == "darwin":
        path, text = (
            home / "Desktop/edgekeeper.command",
            _COMMAND.format(command=shlex.join([python, *ends])),
        )
    else:
        data = os.environ.get("XDG_DATA_HOME") or home / ".local/share"
        path = Path(data, "applications/edgekeeper.desktop")
        quoted = '"' + re.sub(r'(["`$\\])', r"\\\1", python).replace("%", "%%") + '"'
        icon = Path(__file__).parents[1] / "server/page/icon.svg"
        # In a value of such a file a backslash is written twice, within quotes and without.
        command, shown = (
            one.replace("\\", "\\\\") for one in (" ".join([quoted, *ends]), str(icon))
        )
        text = _DESKTOP.format(command=command, icon=shown)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    path.chmod(0o755)
    return path
