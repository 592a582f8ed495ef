"""Files of weights and of training state: safetensors with JSON, atomic, never pickled code.

One file holds everything, so that a kill at any moment leaves the file before or the file after.
"""

import dataclasses
import hashlib
import json
import subprocess
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from edgekeeper import __version__
from edgekeeper.errors import CheckpointError, InputError
from edgekeeper.files import BAD_ZIP, make_folder, new_file, open_plain, parse_json, reading
from edgekeeper.models import MODELS, SRModel
from edgekeeper.models.own import class_files, load_entry_point
from edgekeeper.spec import Spec, from_json, to_plain

# The entries of the file's metadata: JSON, and the digest of that and of all tensors.
KEY, DIGEST = "edgekeeper", "sha256"
_UNUSED = "unused"
_MOST_UNPACKED = 10  # bytes of what an archive holds for each of its own; PyTorch packs none
_MOST_HEADER = 2**23  # bytes of names and shapes, for some 80,000 tensors


# What earlier versions called the field of a recipe, a choice, or the beginning of a tensor's name.
_FORMERLY = {
    "adversaries": "discriminators",
    "average": "ema_decay",
    "critic": "network",
    "critic_updates": "discriminator_updates",
    "discriminator": "network",
    "final_rate": "final_learning_rate",
    "picture": "image",
    "rate": "learning_rate",
    "sees": "input",
}
_PREFIXES_FORMERLY = {
    "average.": "ema.",
    "critic ": "discriminator ",
    "optimiser.": "optimizer.",
    "optimiser of critic ": "optimizer of discriminator ",
}


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a file by name, and the JSON object beside them."""

    tensors: dict[str, Tensor]
    facts: dict[str, object]

    def below(self, part: str) -> dict[str, Tensor]:
        """Return the tensors of one part of a training state, by their names within it."""
        prefix = f"{part}."
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}


@dataclass(frozen=True)
class NetworkFile:
    """How to build the network of a file, its weights, and where they come from."""

    spec: Spec[SRModel]
    tensors: dict[str, Tensor]
    card: dict[str, object]


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], *, facts: Mapping[str, object]
) -> None:
    """Write tensors and facts to ``path``, whole or not at all. Raises CheckpointError."""
    packed = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    said = json.dumps(dict(facts))
    metadata = {KEY: said, DIGEST: _digest(packed, said)}
    make_folder(path.parent, error=CheckpointError)
    with new_file(path, error=CheckpointError) as draft:
        try:
            save_file(packed, str(draft), metadata=metadata)
        except SafetensorError as error:
            raise CheckpointError(f"'{path}' cannot be written: {error}.") from error


def check_whole(path: Path) -> bytes:
    """Return the first bytes of a file of weights; CheckpointError for what is plainly none."""
    with reading(path, error=CheckpointError), open_plain(path) as file:
        size = path.stat().st_size
        head = file.read(512)
        file.seek(max(0, size - 2**16))
        tail = file.read()
    if not size:
        raise CheckpointError(f"'{path}' is empty (0 bytes); get it anew.")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"'{path}' is a pointer of Git LFS; get the file by `git lfs pull`.")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        raise CheckpointError(
            f"'{path}' is a web page, not weights; download the file itself (its raw form)."
        )
    header = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and header > _MOST_HEADER:
        raise CheckpointError(f"'{path}' is damaged: its header would be of {header:,} bytes.")
    archive = head.startswith(b"PK\x03\x04")
    cut_zip = archive and b"PK\x05\x06" not in tail
    if cut_zip or (head[8:9] == b"{" and header + 8 > size):
        raise CheckpointError(f"'{path}' is cut off after {size:,} bytes; get it anew.")
    if archive:
        _check_archive(path, size=size)
    return head


def _check_archive(path: Path, *, size: int) -> None:
    """Raise CheckpointError for an archive, as PyTorch writes, that unpacks to far more."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (OSError, *BAD_ZIP) as error:
        raise CheckpointError(f"'{path}' is a damaged archive ({error}).") from error
    programs = sum(item.file_size for item in members if item.filename.endswith(".pkl"))
    total = sum(item.file_size for item in members)
    if programs > _MOST_HEADER or total > _MOST_UNPACKED * size + 2**20:
        raise CheckpointError(f"'{path}' is damaged: it unpacks to {total:,} bytes from {size:,}.")


def is_safetensors(head: bytes) -> bool:
    """Return whether a file begins as safetensors do, whatever its name."""
    return head[8:9] == b"{" and not head.startswith(b"PK")


def read_tensors(path: Path) -> TensorFile:
    """Return the tensors and facts that ``write_tensors`` wrote. Raises CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint '{path}'.")
    check_whole(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"'{path}' is not a readable safetensors file: {error}. It may be cut off."
        ) from error
    try:
        facts = parse_json(metadata[KEY])
        if not isinstance(facts, dict):
            raise KeyError(KEY)
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"'{path}' holds weights but was not written by edgekeeper; "
            "edgekeeper.pretrained.published reads the formats of other programs."
        ) from error
    # Files of earlier versions have no digest; an entry of another name is one that was damaged.
    if len(metadata) > 1 and metadata.get(DIGEST) != _digest(tensors, metadata[KEY]):
        raise CheckpointError(
            f"'{path}' is damaged: its content is not what was written. Copy it anew, or use an "
            "earlier checkpoint (stage-1.safetensors, ... in the run's folder)."
        )
    return TensorFile({_name(key): tensor for key, tensor in tensors.items()}, facts)


def _digest(tensors: Mapping[str, Tensor], facts: str) -> str:
    digest = hashlib.sha256(facts.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _name(key: str) -> str:
    for before, now in _PREFIXES_FORMERLY.items():
        if key.startswith(before):
            return now + key.removeprefix(before)
    return key


@cache
def code_version() -> dict[str, str]:
    """Which code this is: versions of edgekeeper and torch, and the commit of a git checkout."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        commit = found.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = "unknown"
    return {"edgekeeper": __version__, "torch": torch.__version__, "commit": commit}


def save_model(
    path: Path, model: SRModel, *, spec: Spec[SRModel], card: Mapping[str, object]
) -> None:
    """Write a network that ``load_model`` builds again: its spec, weights and card."""
    facts = {"model": spec.to_json(), "card": dict(card), **class_files(model)}
    write_tensors(path, model.state_dict(), facts=facts)


def model_spec(description: Mapping[str, object]) -> Spec[SRModel]:
    """Return the Spec of a network that ``save_model`` wrote."""
    known = {network.__name__: network for network in MODELS.values()}
    return from_json(description, known=known, unknown=load_entry_point)


def read_network(path: Path) -> NetworkFile:
    """Return the network of a file from ``save_model``, or of a training state.

    Of a state it is the EMA of the weights, where there is one. Raises CheckpointError.
    """
    file = read_tensors(path)
    recipe = file.facts.get("recipe")  # states of earlier versions say it there
    description = file.facts.get("model", recipe.get("model") if isinstance(recipe, dict) else None)
    if not isinstance(description, dict):
        raise CheckpointError(f"'{path}' does not say what network it holds.")
    try:
        found = model_spec(description)
    except InputError as error:
        classes = dict(file.facts.get("classes") or {})  # type: ignore[call-overload]
        origin = "".join(f" {name} was defined in '{where}'." for name, where in classes.items())
        raise CheckpointError(
            f"'{path}' holds a network that this version does not know: {error}{origin}"
        ) from error
    card = file.facts.get("card")
    tensors = file.tensors
    if "step" in file.facts:
        tensors = file.below("ema") or file.below("model")
    return NetworkFile(found, tensors, card if isinstance(card, dict) else {})


def load_model(path: Path) -> SRModel:
    """Return the network of a file from ``save_model`` or of a training state, ready to use.

    It is float32 and in evaluation mode. Raises CheckpointError.
    """
    file = read_network(path)
    try:
        if file.spec.target in MODELS.values():  # its size first, which takes no memory
            _check_numbers(file)
            with torch.device("meta"):
                _check_shapes(file.spec.build(), file.tensors, origin=str(path))
        model = file.spec.build()
    except (InputError, TypeError, AttributeError) as error:  # values of another type
        raise CheckpointError(
            f"'{path}' holds a network that this version cannot build: {error}"
        ) from error
    load_exactly(model, {k: v.float() for k, v in file.tensors.items()}, origin=str(path))
    return model.eval()


def _check_numbers(file: NetworkFile) -> None:
    """Raise InputError for an argument beyond what the file's tensors can be about."""
    shapes = [tuple(tensor.shape) for tensor in file.tensors.values()]
    most = max(1024, len(shapes), *(max(shape, default=0) for shape in shapes))
    waiting: list[object] = [file.spec]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Spec):
            waiting += dict(value.arguments).values()
        elif isinstance(value, (tuple, list)):
            waiting += value
        elif isinstance(value, (int, float)) and value > most:
            raise InputError(f"{value} is more than its {len(shapes)} tensors have of anything.")


def load_exactly(model: nn.Module, tensors: Mapping[str, Tensor], *, origin: str) -> None:
    """Load ``tensors`` into ``model``; every name and shape must fit, what does not is named."""
    _check_shapes(model, tensors, origin=origin)
    model.load_state_dict(dict(tensors))


def _check_shapes(model: nn.Module, tensors: Mapping[str, Tensor], *, origin: str) -> None:
    own = model.state_dict()
    missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or unknown:
        raise CheckpointError(
            f"'{origin}' does not fit {type(model).__name__}: "
            f"missing {some_of(missing)}; unknown {some_of(unknown)}."
        )
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise CheckpointError(
                f"'{origin}': {name} is {tuple(tensor.shape)}, "
                f"but this network needs {tuple(own[name].shape)}."
            )


def some_of(names: list[str]) -> str:
    """Return the first names, and how many more there are."""
    shown = ", ".join(names[:4]) or "none"
    return shown + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Return the optimizer's state per parameter, as ``name/key`` -> tensor.

    A parameter that has none, because no gradient has reached it, is ``name/unused``.
    """
    found: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        state = optimizer.state.get(parameter, {})
        own = {f"{name}/{key}": v for key, v in state.items() if isinstance(v, Tensor)}
        found |= own or {f"{name}/{_UNUSED}": torch.zeros(0)}
    return found


def restore_optimizer(
    optimizer: torch.optim.Optimizer, model: nn.Module, *, tensors: Mapping[str, Tensor]
) -> None:
    """Restore the optimizer from what ``optimizer_tensors`` saved. Raises CheckpointError."""
    saved = {key.rpartition("/")[0] for key in tensors}
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    missing = sorted(learning.keys() - saved)
    if saved and missing:  # files of earlier versions have nothing at all of a plain SGD
        raise CheckpointError(f"The checkpoint lacks the optimizer's state of {some_of(missing)}.")
    for name, parameter in learning.items():
        prefix = f"{name}/"
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        state.pop(_UNUSED, None)
        for key, value in state.items():
            on_parameter = key != "step"  # Adam keeps its step count on the CPU
            optimizer.state[parameter][key] = value.to(parameter.device) if on_parameter else value
            if on_parameter and parameter.dim() == 4 and value.shape == parameter.shape:
                optimizer.state[parameter][key] = torch.empty_like(parameter).copy_(value)


def agrees(value: object, saved: object) -> bool:
    """Return whether ``saved``, read from JSON, says what ``value`` says.

    A field that did not exist yet when it was saved counts as its default.
    """
    if isinstance(value, Spec) or not dataclasses.is_dataclass(value):
        if isinstance(value, tuple) and isinstance(saved, list):
            return len(value) == len(saved) and all(map(agrees, value, saved))
        return to_plain(value) in (saved, _FORMERLY.get(str(saved), saved))
    if not isinstance(saved, dict):
        return False
    fields = {field.name: field for field in dataclasses.fields(value)}
    saved = {_FORMERLY.get(name, name): old for name, old in saved.items()}
    return saved.keys() <= fields.keys() and all(
        agrees(getattr(value, name), saved[name])
        if name in saved
        else getattr(value, name) == field.default
        for name, field in fields.items()
    )
