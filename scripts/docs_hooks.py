"""Hooks of mkdocs: reference of every module, help of every command, pairs of images as sliders."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.structure.files import File

from edgekeeper.cli import group

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "edgekeeper"
_REPORT = (PACKAGE / "evaluation" / "report.html").read_text("utf-8")  # has the same slider
_STYLE = "".join(re.findall(r"^\.slider.*\n", _REPORT, re.MULTILINE))
_SCRIPT = _REPORT[_REPORT.index("<script>") : _REPORT.index("</body>")]
# Two images that are a paragraph of their own.
_PAIR = re.compile(r"<p>(<img [^>]*>)\s*(<img [^>]*>)</p>")
_SLIDER = (
    r'<div class="slider">\1\2<input type="range" value="50" aria-label="where the first image '
    r'ends"></div>'
)


def parts() -> list[str]:
    """The modules and packages right below edgekeeper; the command line has commands.md."""
    names = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in modules("**")}
    return sorted(names - {"__init__", "__main__", "cli"})


def modules(below: str) -> Iterator[Path]:
    """The files of a package, or of all."""
    return (path for path in sorted(PACKAGE.glob(f"{below}/*.py")) if path.is_file())


def helps(command: click.Command, context: click.Context) -> Iterator[str]:
    """The help of a command and of those below it, as Markdown."""
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None:
                yield from helps(below, click.Context(below, info_name=name, parent=context))


def on_config(config: Any) -> Any:
    """Return the configuration with the pages of the reference in its contents."""
    pages = [{f"edgekeeper.{name}": f"reference/{name}.md"} for name in parts()]
    for section in config.nav:
        if pages and "reference.md" in (inside := next(iter(section.values()))):
            inside[inside.index("reference.md")] = {"The library": ["reference.md", *pages]}
    return config


def on_files(files: Any, *, config: Any) -> Any:
    """Return the files with a page for every package, which names each of its modules."""
    for name in parts():
        own = (
            [PACKAGE / f"{name}.py"]
            if (PACKAGE / f"{name}.py").is_file()
            else [*modules(f"{name}/**")]
        )
        dotted = (".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in own)
        asked = "\n\n".join(f"::: {module.removesuffix('.__init__')}" for module in dotted)
        text = f"# edgekeeper.{name}\n\n{asked}\n"
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return the page's text, that of commands.md with the helps, of reference.md with a list."""
    if page.file.src_uri == "commands.md":
        more = helps(group, click.Context(group, info_name="edgekeeper"))
        return markdown + "\n" + "\n".join(more)
    if page.file.src_uri == "reference.md":
        return markdown + "\n" + "\n".join(map(_entry, parts())) + "\n"
    return markdown


def _entry(name: str) -> str:
    file = PACKAGE / f"{name}.py"
    file = file if file.is_file() else PACKAGE / name / "__init__.py"
    said = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    first = " ".join(said.partition("\n\n")[0].split())
    return f"- [edgekeeper.{name}](reference/{name}.md): {first}"


def on_page_content(html: str, **_: Any) -> str:
    """Return the page's HTML with two images that stand alone together under a slider."""
    html, count = _PAIR.subn(_SLIDER, html)
    return f"{html}<style>{_STYLE}</style>{_SCRIPT}" if count else html
