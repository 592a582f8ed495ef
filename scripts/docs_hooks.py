"""Hooks of mkdocs: commands.md gets the help of every command, pairs of images a slider."""

import re
from collections.abc import Iterator
from typing import Any

import click

from edgekeeper.cli import group
from edgekeeper.evaluation.html import SLIDER_SCRIPT, SLIDER_STYLE

# Two images that are a paragraph of their own.
_PAIR = re.compile(r"<p>(<img [^>]*>)\s*(<img [^>]*>)</p>")
_SLIDER = (
    r'<div class="slider">\1\2<input type="range" value="50" aria-label="where the first image '
    r'ends"></div>'
)


def helps(command: click.Command, context: click.Context) -> Iterator[str]:
    """The help of a command and of those below it, as Markdown."""
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None:
                yield from helps(below, click.Context(below, info_name=name, parent=context))


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return the page's text, that of commands.md with the helps."""
    if page.file.src_uri != "commands.md":
        return markdown
    return markdown + "\n" + "\n".join(helps(group, click.Context(group, info_name="edgekeeper")))


def on_page_content(html: str, **_: Any) -> str:
    """Return the page's HTML with two images that stand alone together under a slider."""
    html, count = _PAIR.subn(_SLIDER, html)
    used = f"<style>{SLIDER_STYLE}</style><script>{SLIDER_SCRIPT}</script>"
    return html + used if count else html
