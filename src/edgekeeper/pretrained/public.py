"""Networks that others published: got by name or from the Hugging Face Hub, kept per user.

Sizes and SHA-256 are those that several public records of these files agree on; what comes is
checked against both.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekeeper.data.catalogue import Remote
from edgekeeper.data.fetch import fetch
from edgekeeper.errors import InputError, UnavailableError, check_choice, import_extra
from edgekeeper.files import read_facts, user_cache


@dataclass(frozen=True)
class PublicNetwork:
    """A network that others published; ``line`` says what it is."""

    scale: int
    style: str
    licence: str
    line: str
    remote: Remote


def _read() -> Iterator[tuple[str, PublicNetwork]]:
    for name, facts in read_facts("edgekeeper.pretrained", "public.toml").items():
        yield name, PublicNetwork(remote=Remote(**facts.pop("remote")), **facts)


PUBLIC: dict[str, PublicNetwork] = dict(_read())

_HUB = re.compile(r"hf:/{1,2}([\w.-]+/[\w.-]+)(?:@([\w./-]+?))?(?:/(.+))?")
HUB_FILE = "model.safetensors"  # where an address names no file


@dataclass(frozen=True)
class HubAddress:
    """A file of a repository of the Hugging Face Hub: ``hf://owner/name[@revision][/file]``."""

    repository: str
    file: str
    revision: str | None


def hub_address(text: str) -> HubAddress | None:
    """Return what an ``hf://`` address names, None for anything else; raise InputError if wrong."""
    if not text.startswith("hf:/"):
        return None
    found = _HUB.fullmatch(text)
    if found is None:
        raise InputError(
            f"'{text}' is no address of the Hugging Face Hub; they are hf://OWNER/NAME/FILE, with "
            "@REVISION behind NAME if wanted."
        )
    return HubAddress(found[1], found[3] or HUB_FILE, found[2])


def public_path(name: str) -> Path:
    """Return where the file of a public network is kept, whether it is there or not."""
    return user_cache() / "models" / PUBLIC[name].remote.path


def get_public(name: str) -> Path:
    """Return the file of a public network, or of an ``hf://`` address. Raises InputError."""
    address = hub_address(name)
    if address is not None:
        return download(address)
    check_choice("public network", name, known=PUBLIC)
    return fetch(PUBLIC[name].remote, public_path(name).parent)


def download(address: HubAddress) -> Path:
    """Return a file of the Hub, from its cache or got. Raises UnavailableError."""
    hub = _hub()
    try:
        path = hub.hf_hub_download(address.repository, address.file, revision=address.revision)
    except (OSError, ValueError) as error:  # its own errors are among these
        raise UnavailableError(
            f"hf://{address.repository}/{address.file} cannot be had: {_first_line(error)}"
        ) from error
    return Path(path)


def push(path: Path, address: HubAddress, *, card: str) -> str:
    """Upload the network file ``path`` with ``card`` as README.md; return the page's address.

    The repository is made if there is none. Who may do that is known to huggingface_hub.
    Raises UnavailableError.
    """
    hub = _hub().HfApi()
    try:
        hub.create_repo(address.repository, exist_ok=True)
        for content, name in ((str(path), address.file), (card.encode(), "README.md")):
            hub.upload_file(
                path_or_fileobj=content,
                path_in_repo=name,
                repo_id=address.repository,
                revision=address.revision,
            )
    except Exception as error:  # those of its HTTP library have no base in common with its own
        raise UnavailableError(
            f"hf://{address.repository} cannot be written: {_first_line(error)}"
        ) from error
    return f"https://huggingface.co/{address.repository}"


def _hub() -> Any:
    return import_extra("huggingface_hub", extra="hub", what="An address hf://")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
