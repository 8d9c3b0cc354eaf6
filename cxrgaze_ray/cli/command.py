"""What every command has: its example, as it can be copied, and options for how much is said."""

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from cxrgaze_ray.cli.console import set_volume


class Command(TyperCommand):
    """A command of the tree. Its examples are the paragraphs of its help that hold a command line after a colon."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params.extend(_volume_options())

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write what the command does, without its examples."""
        whole = self.help
        self.help = "\n\n".join(part for part in _paragraphs(whole) if not _is_example(part))
        try:
            super().format_help_text(ctx, formatter)
        finally:
            self.help = whole

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples, each in a line of its own however long: a line that is broken can't be copied."""
        for part in filter(_is_example, _paragraphs(self.help)):
            title, _, line = " ".join(part.split()).partition(": ")
            formatter.write(f"\n{title}:\n  {line}\n")
        super().format_epilog(ctx, formatter)


def _paragraphs(text: str | None) -> list[str]:
    return (text or "").split("\n\n")


def _is_example(paragraph: str) -> bool:
    return ": cxrgaze " in paragraph.partition("\n")[0]


def _quiet(value: bool) -> None:
    if value:
        set_volume(-1)


def _verbose(value: bool) -> None:
    if value:
        set_volume(1)


def _volume_options() -> list[Any]:
    """Return the options that say how much is said, which no command's function needs to know of."""

    def said(
        quiet: Annotated[
            bool,
            typer.Option("--quiet", "-q", callback=_quiet, help="Say nothing but warnings, errors and the result."),
        ] = False,
        verbose: Annotated[
            bool,
            typer.Option(
                "--verbose",
                "-v",
                callback=_verbose,
                help="Say when things happen, what libraries report, and where errors come from.",
            ),
        ] = False,
    ) -> None: ...

    maker = typer.Typer(add_completion=False)
    maker.command()(said)
    options = list(typer.main.get_command(maker).params)
    for option in options:
        option.expose_value = False
    return options
