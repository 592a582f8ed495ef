"""A hook of mkdocs: the page commands.md gets the help of every command."""

from collections.abc import Iterator
from typing import Any

import click

from edgekeeper.cli import group


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
