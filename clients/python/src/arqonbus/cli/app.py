"""The program ``arqonbus`` with its commands. ``failures`` has the exit codes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .._version import __version__
from ..errors import BusClosed
from . import failures, output
from .commands.amend import amend
from .commands.ask import ask
from .commands.bench import bench
from .commands.follow import follow
from .commands.history import history
from .commands.overview import channels, status, who
from .commands.publishing import pub
from .commands.stream import stream
from .commands.tail import tail
from .commands.work import jobs, work
from .options import Command, Group

app = typer.Typer(
    name="arqonbus",
    cls=Group,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Publish, follow and inspect messages on an ArqonBus. "
    "ARQONBUS_URL is the URL of the bus, and ARQONBUS_TOKEN is your access token.",
    epilog="Exit codes: 0 done, 1 refused, 2 wrong usage, 3 not reachable, 4 not allowed, 5 not found, 6 conflict, "
    "7 timed out, 8 stopped, 130 Ctrl+C.",
)


for _command in (tail, follow, pub, amend, stream, ask, work, jobs, history, status, channels, who, bench):
    app.command(cls=Command)(_command)


@app.command(
    cls=Command, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False
)
def mcp(context: typer.Context) -> None:
    """Serve MCP on standard input and output for an agent. It needs the extra mcp and takes the options of arqonbus-mcp."""
    try:
        from ..mcp_server import main as serve
    except ModuleNotFoundError as problem:
        output.fail(f"MCP needs the package {problem.name}.", 'pip install "mcp>=2"')
        raise typer.Exit(failures.USAGE) from None
    serve(context.args)


def _version(wanted: bool) -> None:
    if wanted:
        output.out.print(f"arqonbus {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Publish, follow and inspect messages on an ArqonBus."""


def run() -> None:
    """Run the command line."""
    try:
        app()
    except BusClosed:
        sys.exit(failures.UNREACHABLE)
