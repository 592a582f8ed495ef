"""The rules of the house that a program can check: layers, sizes, names, docstrings, safety."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgekeeper

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "edgekeeper"
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
MODULES = {path: str(path.relative_to(PACKAGE)) for path in FILES}

# A module imports only from a lower layer, or from a module named before it in its own. Those of
# SIBLINGS never import each other.
LAYERS = (
    ("errors", "spec", "files"),
    ("ops", "image"),
    ("models",),
    ("losses", "metrics", "data"),
    ("pretrained",),
    ("inference",),
    ("evaluation",),
    ("training",),
    ("recipes",),
    ("video", "figures", "papers"),
    ("server",),
    ("cli",),
    ("__main__",),
)
SIBLINGS = LAYERS[3]
PLACE = {
    name: (layer, number)
    for layer, names in enumerate(LAYERS, start=1)
    for number, name in enumerate(names)
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def unit(path: Path) -> str:
    """The module or package right below edgekeeper that the file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Full names of what is imported anywhere in a file, each with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def imports_of_modules(*, anywhere: bool = False) -> dict[str, set[str]]:
    """The modules and packages of ours that each file imports, at its top or anywhere."""
    names = {path: dotted(path) for path in FILES if path != PACKAGE / "__init__.py"}
    known = set(names.values())
    found: dict[str, set[str]] = {}
    for path, name in names.items():
        top = ast.Module(
            [n for n in TREES[path].body if anywhere or isinstance(n, ast.Import | ast.ImportFrom)],
            [],
        )
        needed = {full.removeprefix("edgekeeper.") for full, _ in imported(top)}
        found[name] = {n if n in known else n.rpartition(".")[0] for n in needed} & known - {name}
    return found


def defined(tree: ast.Module) -> Iterator[str]:
    """The public names that a file defines itself: classes, functions, constants and types."""
    for node in tree.body:
        names: list[ast.expr | str] = []
        if isinstance(node, Function | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = list(node.targets)
        elif isinstance(node, ast.AnnAssign):
            names = [node.target]
        for name in names:
            text = name.id if isinstance(name, ast.Name) else name
            if isinstance(text, str) and not text.startswith("_"):
                yield text


def circles(arrows: dict[str, set[str]]) -> Iterator[list[str]]:
    """The first circle that is met from each name that lies on one and on none before."""
    done: set[str] = set()

    def walk(path: list[str]) -> Iterator[list[str]]:
        for name in sorted(arrows.get(path[-1], ())):
            if name in path:
                yield [*path[path.index(name) :], name]
            elif name not in done:
                yield from walk([*path, name])
        done.add(path[-1])

    for name in sorted(arrows):
        if name not in done:
            yield from walk([name])


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def public(tree: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, ast.stmt]]:
    """Public classes, functions and methods, by dotted name."""
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node, prefix=f"{prefix}{node.name}.")


def protocols(tree: ast.Module) -> set[str]:
    """The names of a file's classes that only describe an interface."""
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef) and any(ast.unparse(b) == "Protocol" for b in node.bases)
    }


def called(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """The calls of a file with the text of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def raised(node: ast.AST) -> Iterator[tuple[ast.Raise | ast.Call, str]]:
    """The errors that a function raises itself or by ``check_choice``, not by one inside it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Raise) and isinstance(child.exc, ast.Call):
            name = ast.unparse(child.exc.func)
            yield child, "InputError" if name == "unknown_name" else name
        if isinstance(child, ast.Call) and ast.unparse(child.func) == "check_choice":
            yield child, "InputError"
        if not isinstance(child, Function | ast.ClassDef | ast.Lambda):
            yield from raised(child)


def decorators(node: ast.stmt) -> set[str]:
    assert isinstance(node, Function)
    return {ast.unparse(found).partition("(")[0] for found in node.decorator_list}


def nothing(complaints: list[str]) -> None:
    assert not complaints, "\n" + "\n".join(complaints)


class TestLayers:
    def test_every_module_has_a_layer(self) -> None:
        units = {unit(path) for path in FILES} - {"__init__"}
        nothing([f"'{name}' has no layer: give it one in LAYERS" for name in units - set(PLACE)])

    def test_imports_go_down(self) -> None:
        complaints = []
        for path, tree in TREES.items():
            if path == PACKAGE / "__init__.py":
                continue
            here = unit(path)
            for name, line in imported(tree):
                if not name.startswith("edgekeeper.") or name == "edgekeeper.__version__":
                    continue
                there = name.split(".")[1]
                if there == here:
                    continue
                down = PLACE.get(there, (99, 0)) < PLACE.get(here, (99, 0))
                if not down or (here in SIBLINGS and there in SIBLINGS):
                    complaints.append(f"{MODULES[path]}:{line} imports {name}")
        nothing(complaints)

    def test_the_check_sees_a_wrong_import(self) -> None:
        tree = ast.parse(
            "def f():\n    from edgekeeper.training.loop import train\n    import edgekeeper.image"
        )
        assert list(imported(tree)) == [
            ("edgekeeper.training.loop.train", 2),
            ("edgekeeper.image", 3),
        ]
        assert (
            PLACE["training"] > PLACE["data"] > PLACE["models"] > PLACE["image"] > PLACE["errors"]
        )

    def test_no_files_import_each_other_in_a_circle(self) -> None:
        arrows = {name: needed for name, needed in imports_of_modules().items() if "." in name}
        nothing([f"a circle: {' -> '.join(found)}" for found in circles(arrows)])

    def test_no_packages_import_each_other_in_a_circle(self) -> None:
        arrows: dict[str, set[str]] = {}
        for name, needed in imports_of_modules().items():
            here = name.partition(".")[0]
            arrows.setdefault(here, set()).update({n.partition(".")[0] for n in needed} - {here})
        nothing([f"a circle: {' -> '.join(found)}" for found in circles(arrows)])

    def test_the_check_sees_a_circle(self) -> None:
        assert not list(circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}))
        assert list(circles({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == [["b", "c", "b"]]

    def test_at_most_24_things_lie_at_the_top(self) -> None:
        there = {
            p.name for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()
        }
        assert len(there) <= 24, sorted(there)

    def test_imports_are_absolute(self) -> None:
        nothing(
            [
                f"{MODULES[path]}:{node.lineno} imports relatively"
                for path, tree in TREES.items()
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and node.level
            ]
        )

    def test_imports_stand_at_the_top_but_for_commands_and_extras(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = {
            re.split(r"[^\w-]", requirement)[0].replace("-", "_")
            for name, requirements in project["optional-dependencies"].items()
            if name not in ("test", "dev")
            for requirement in requirements
        } | {"PIL"}  # as which pillow is imported
        nothing(
            [
                f"{MODULES[path]}:{line} imports {name} inside {function.name}"
                for path, tree in TREES.items()
                if unit(path) != "cli"
                for function in functions(tree)
                for name, line in imported(function)
                if not extras & set(name.split("."))
            ]
        )


class TestSizesAndNames:
    def test_no_file_is_longer_than_400_lines(self) -> None:
        lengths = {MODULES[p]: len(p.read_text(encoding="utf-8").splitlines()) for p in FILES}
        nothing([f"{name} has {count} lines" for name, count in lengths.items() if count > 400])

    def test_no_function_is_longer_than_80_lines(self) -> None:
        complaints = []
        for path, tree in TREES.items():
            for node in functions(tree):
                assert node.end_lineno is not None
                count = node.end_lineno - node.body[0].lineno + 1  # signatures take a line a name
                if count > 80:
                    complaints.append(f"{MODULES[path]}: {node.name} has {count} lines")
        nothing(complaints)

    def test_no_module_is_named_after_nothing(self) -> None:
        empty = re.compile(r"(^|_)(utils?|common|misc|helpers?|tools?)($|_)")
        names = {part for path in FILES for part in path.relative_to(PACKAGE).with_suffix("").parts}
        nothing([f"'{name}' says nothing" for name in sorted(names) if empty.search(name)])

    def test_a_public_name_is_defined_once(self) -> None:
        found: dict[str, set[str]] = {}
        for path, tree in TREES.items():
            for name in defined(tree):
                found.setdefault(name, set()).add(MODULES[path])
        nothing([f"{name}: {', '.join(sorted(n))}" for name, n in found.items() if len(n) > 1])

    def test_few_small_modules_have_one_importer(self) -> None:
        importers: dict[str, set[str]] = {}
        for name, needed in imports_of_modules(anywhere=True).items():
            for module in needed:
                importers.setdefault(module, set()).add(name)
        small = [
            MODULES[path]
            for path in FILES
            if not path.name.startswith("__")
            and len(path.read_text(encoding="utf-8").splitlines()) < 60
            and len(importers.get(dotted(path), ())) == 1
        ]
        assert len(small) <= 10, small

    def test_public_functions_take_at_most_two_arguments_by_position(self) -> None:
        complaints = []
        for path, tree in TREES.items():
            for name, node in public(tree):
                if not isinstance(node, Function):
                    continue
                # A command's arguments are filled in by the command line, by name.
                if unit(path) == "cli" and any("command" in found for found in decorators(node)):
                    continue
                arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
                owned = arguments[:1] in (["self"], ["cls"], ["ctx"])
                # torch calls forward and backward of an autograd function by position, and a
                # Protocol describes what others wrote.
                theirs = "ctx" in arguments[:1] or name.split(".")[0] in protocols(tree)
                if theirs or len(arguments) - owned <= 2:
                    continue
                complaints.append(f"{MODULES[path]}: {name}({', '.join(arguments)})")
        nothing(complaints)

    def test_public_functions_swallow_no_arguments(self) -> None:
        # spec hands the arguments of another class on, under the eyes of the type checker; click
        # gives a command the options that stand above it and no others.
        nothing(
            [
                f"{MODULES[path]}: {name} takes *args or **kwargs"
                for path, tree in TREES.items()
                for name, node in public(tree)
                if isinstance(node, Function)
                and (node.args.vararg or (node.args.kwarg and not is_typed(node.args.kwarg)))
                and (MODULES[path], name) != ("spec.py", "spec")
                and not (unit(path) == "cli" and any("command" in d for d in decorators(node)))
            ]
        )


def is_typed(kwarg: ast.arg) -> bool:
    """Whether the type of **kwargs names each of them, which the type checker then looks at."""
    return kwarg.annotation is not None and ast.unparse(kwarg.annotation).startswith("Unpack[")


def is_overload(node: Function | ast.ClassDef) -> bool:
    """Whether the node is one of several typed signatures, which are documented once."""
    return any(isinstance(d, ast.Name) and d.id == "overload" for d in node.decorator_list)


class TestDocstrings:
    def test_everything_public_says_what_it_is(self) -> None:
        complaints = []
        for path, tree in TREES.items():
            if not ast.get_docstring(tree) and path.read_text(encoding="utf-8").strip():
                complaints.append(f"{MODULES[path]} has no docstring")
            for name, node in public(tree):
                assert isinstance(node, Function | ast.ClassDef)
                # Those of modules do what their class says; shapes stand beside the steps.
                inherited = name.rpartition(".")[2] in ("forward", "features", "reconstruct")
                known = is_overload(node) or (inherited and unit(path) in ("models", "losses"))
                if not ast.get_docstring(node) and not known:
                    complaints.append(f"{MODULES[path]}:{node.lineno} {name} has no docstring")
        nothing(complaints)

    def test_what_is_raised_is_named(self) -> None:
        errors = {n.name for n in TREES[PACKAGE / "errors.py"].body if isinstance(n, ast.ClassDef)}
        complaints = []
        for path, tree in TREES.items():
            documented = dict(public(tree)) if unit(path) != "cli" else {}  # docstrings are help
            for name, node in documented.items():
                methods = node.body if isinstance(node, ast.ClassDef) else [node]
                owner = documented.get(name.rpartition(".")[0], node)
                assert isinstance(node, Function | ast.ClassDef)
                assert isinstance(owner, Function | ast.ClassDef)
                said = (ast.get_docstring(node) or "") + (ast.get_docstring(owner) or "")
                complaints += [
                    f"{MODULES[path]}:{raising.lineno} {name} does not say that it raises {error}"
                    for method in methods
                    if isinstance(method, Function)
                    and (method is node or method.name in ("__init__", "__post_init__"))
                    for raising, error in raised(method)
                    if error in errors and error not in said
                ]
        nothing(complaints)

    def test_first_lines_are_one_line_and_a_sentence(self) -> None:
        complaints = []
        for path, tree in TREES.items():
            for name, node in [("the module", tree), *public(tree)]:
                assert isinstance(node, ast.Module | ast.ClassDef | Function)
                first = (ast.get_docstring(node) or "x.").splitlines()[0]
                if not first.rstrip().endswith((".", ":", "?")):
                    complaints.append(f"{MODULES[path]}: {name}: '{first}'")
        nothing(complaints)


class TestSafety:
    FORBIDDEN_MODULES = ("pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "random")
    FORBIDDEN_CALLS = ("eval", "exec", "compile", "__import__", "torch.save", "os.system")

    def test_nothing_runs_code_from_data(self) -> None:
        complaints = []
        for path, tree in TREES.items():
            complaints += [
                f"{MODULES[path]}:{line} imports {name}"
                for name, line in imported(tree)
                if name.split(".")[0] in self.FORBIDDEN_MODULES and name != "pickle"
            ]
            complaints += [
                f"{MODULES[path]}:{node.lineno} uses {ast.unparse(node)}"
                for node in ast.walk(tree)
                if isinstance(node, ast.Attribute)
                and ast.unparse(node.value) == "pickle"
                and node.attr != "UnpicklingError"  # what torch.load raises when it refuses one
            ]
            for name, call in called(tree):
                keywords = {k.arg: ast.unparse(k.value) for k in call.keywords}
                unsafe = name in self.FORBIDDEN_CALLS or keywords.get("allow_pickle") == "True"
                if name == "torch.load":
                    unsafe = keywords.get("weights_only") != "True"
                if keywords.get("shell") == "True" or unsafe:
                    complaints.append(f"{MODULES[path]}:{call.lineno} calls {name}")
        nothing(complaints)

    def test_nothing_is_printed_but_by_commands(self) -> None:
        nothing(
            [
                f"{MODULES[path]}:{call.lineno} prints"
                for path, tree in TREES.items()
                if unit(path) != "cli"
                for name, call in called(tree)
                if name == "print"
            ]
        )

    def test_nothing_is_moved_to_cuda_by_name(self) -> None:
        nothing(
            [
                f"{MODULES[path]}:{call.lineno} calls {name}"
                for path, tree in TREES.items()
                for name, call in called(tree)
                if name.endswith(".cuda")
            ]
        )

    def test_no_random_numbers_come_from_a_global_state(self) -> None:
        state = re.compile(r"(np|numpy)\.random\.(seed|rand|randn|randint|random|choice|shuffle)$")
        nothing(
            [
                f"{MODULES[path]}:{call.lineno} calls {name}"
                for path, tree in TREES.items()
                for name, call in called(tree)
                if state.match(name)
                or (name.endswith("default_rng") and not call.args and not call.keywords)
            ]
        )

    def test_no_error_is_swallowed(self) -> None:
        complaints = []
        for path, tree in TREES.items():
            for node in ast.walk(tree):
                if not isinstance(node, ast.ExceptHandler):
                    continue
                everything = node.type is None or ast.unparse(node.type) in (
                    "Exception",
                    "BaseException",
                )
                handed_on = any(
                    isinstance(n, ast.Raise) or (isinstance(n, ast.Name) and n.id == node.name)
                    for n in ast.walk(node)
                )
                if everything and not handed_on:
                    complaints.append(f"{MODULES[path]}:{node.lineno} catches everything")
        nothing(complaints)


class TestPackage:
    def test_importing_it_loads_no_torch(self) -> None:
        code = "import sys, edgekeeper; print(*sorted(m.split('.')[0] for m in sys.modules))"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
        )
        loaded = set(done.stdout.split())
        assert not loaded & {"torch", "numpy", "pyvips", "safetensors", "click", "rich"}

    def test_every_public_name_is_there_and_documented(self) -> None:
        assert len(edgekeeper.__all__) <= 16  # a dozen, more or less
        assert edgekeeper.__all__ == sorted(edgekeeper.__all__)
        for name in edgekeeper.__all__:
            assert inspect.getdoc(getattr(edgekeeper, name)), name
            assert name in dir(edgekeeper)

    def test_a_name_that_is_not_there_is_an_attribute_error(self) -> None:
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            edgekeeper.nothing  # noqa: B018

    @pytest.mark.parametrize(
        "path", [p for p in FILES if "__all__" in p.read_text()], ids=MODULES.get
    )
    def test_what_a_module_offers_exists(self, path: Path) -> None:
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
        for name in module.__all__:
            assert hasattr(module, name), name

    def test_files_named_in_the_readme_exist(self) -> None:
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text)
        paths = re.findall(
            r"(?<![\w/.:])((?:src|docs|tests|results|examples|benchmarks)/[\w./-]+)", text
        )
        named = {name.rstrip("./") for name in (*links, *paths)}
        nothing([f"README.md names {n}" for n in sorted(named) if not (ROOT / n).exists()])

    def test_modules_named_in_the_readme_s_tree_exist(self) -> None:
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        known = {path.name for path in FILES} | {
            path.name for path in (ROOT / "tests").rglob("*.py")
        }
        blocks = re.findall(r"```(?:text)?\n(.*?)```", text, flags=re.DOTALL)
        named = {
            name
            for block in blocks
            if "__init__.py" in block  # the tree
            for name in re.findall(r"^\s*([a-z_0-9]+\.py)\b", block, flags=re.MULTILINE)
        }
        nothing([f"README.md names {name}" for name in sorted(named - known)])
