"""Networks of one's own: classes of a Python file, or of a package that is installed.

A package names its classes as entry points of the group ``edgekeeper.models``, each under the name
of the class. Both run the code of who wrote the class; a file of weights never does.
"""

import importlib.util
import sys
import traceback
from importlib.metadata import entry_points
from inspect import isfunction
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from edgekeeper.errors import InputError, unknown_name
from edgekeeper.models import MODELS
from edgekeeper.models.base import SRModel

GROUP = "edgekeeper.models"
_PLAIN: dict[str, type[nn.Module]] = {}  # other modules of imported files: parts of a network


def import_file(path: str | Path) -> list[str]:
    """Run a Python file and return the names of its networks, which are known from then on.

    Raises InputError: no such file, one that does not load, or one that defines no network.
    """
    names = adopt(run_file(Path(path), kind="Python file"))
    if not names:
        raise InputError(
            f"'{path}' defines no network: a class derived from edgekeeper.models.SRModel."
        )
    return names


def run_file(path: Path, *, kind: str) -> ModuleType:
    """Return the module that a Python file makes, run now; InputError says where it fails."""
    found = importlib.util.spec_from_file_location(path.stem, path.absolute())
    if not path.is_file() or found is None or found.loader is None:
        raise InputError(f"There is no {kind} '{path}'.")
    module = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except InputError:
        raise
    except Exception as error:  # whatever the file's own code raises
        said = str(error) or type(error).__name__
        if not isinstance(error, (SyntaxError, ImportError, TypeError, NameError, AttributeError)):
            said = ": ".join(part for part in (type(error).__name__, str(error)) if part)
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename) == path.absolute()]
        place = f", line {lines[-1]}," if lines else ""
        raise InputError(f"The {kind} '{path}'{place} does not load: {said}.") from error
    return module


def adopt(module: ModuleType) -> list[str]:
    """Make the networks that ``module`` itself defines known by name; return the names.

    Raises InputError: one is called as a network of edgekeeper is.
    """
    modules = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, nn.Module)
        and value.__module__ == module.__name__
    ]
    _PLAIN.update({value.__name__: value for value in modules if not issubclass(value, SRModel)})
    own = [value for value in modules if issubclass(value, SRModel)]
    for network in own:
        known = MODELS.get(network.__name__.lower())
        if known is not None and known.__module__.startswith("edgekeeper."):
            raise InputError(
                f"'{module.__file__}' defines a network {network.__name__}, which edgekeeper has "
                "too; give it another name."
            )
        MODELS[network.__name__.lower()] = network
    return [network.__name__ for network in modules]


def load_entry_point(name: str) -> type[Any]:
    """Return the network ``name`` of a package that is installed; it is in MODELS from then on.

    Or the class of that name in an imported file that a ``GradientBranch`` may be put around.
    Raises InputError: none has it; says how to make a network of one's own known.
    """
    if name in _PLAIN:
        return _PLAIN[name]
    found = [entry for entry in entry_points(group=GROUP) if entry.name == name]
    if not found:
        unknown = unknown_name("class", name, known=[n.__name__ for n in MODELS.values()])
        raise InputError(
            f"{unknown} A network of your own: name the file that defines it, --import FILE "
            "(edgekeeper.models.own.import_file), which runs it; or install a package that has "
            f"it as an entry point of '{GROUP}'."
        )
    MODELS[name.lower()] = network = found[0].load()
    return network


def class_files(network: nn.Module) -> dict[str, dict[str, str]]:
    """Return under "classes" the file name of each class that is not edgekeeper's, if any."""
    own = {type(part) for part in network.modules()}
    files = {
        kind.__name__: Path(code[0].__code__.co_filename).name
        for kind in own
        if not kind.__module__.startswith(("edgekeeper.", "torch."))
        and (code := [value for value in vars(kind).values() if isfunction(value)])
    }
    return {"classes": files} if files else {}


def check_loadable(network: type) -> None:
    """Raise InputError unless a file of such a network's weights could be loaded again."""
    name, home = network.__qualname__, sys.modules.get(network.__module__)
    if network in MODELS.values() or getattr(home, name, None) is network:
        return
    entry = [entry.name for entry in entry_points(group=GROUP) if entry.name == name]
    if not entry:
        raise InputError(
            f"The network {name} could not be loaded again from the file that the run would write: "
            "define the class at the top of a file of its own, not inside a function."
        )
