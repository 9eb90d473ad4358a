"""The command line: its commands, how errors are said, and the exit codes.

Heavy imports happen inside the commands: ``--help`` must be quick.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import Annotated

import typer

from overread import __version__
from overread.cli.calibrate import calibrate
from overread.cli.compare import compare
from overread.cli.console import say
from overread.cli.curve_shift import curve, shift
from overread.cli.deidentify import deidentify
from overread.cli.direct import direct
from overread.cli.doctor import doctor
from overread.cli.evaluate import evaluate
from overread.cli.explain import explain
from overread.cli.export import export
from overread.cli.froc import froc
from overread.cli.grid import grid
from overread.cli.inventory import data_app, weights_app
from overread.cli.leaderboard import leaderboard
from overread.cli.lr_find import lr_find
from overread.cli.measure import measure
from overread.cli.options import Commands, HelpWithHeadings, expanded
from overread.cli.patches import patches
from overread.cli.plan import plan
from overread.cli.predict import predict
from overread.cli.readers import readers
from overread.cli.recipes import recipes_app
from overread.cli.report import checklist, report
from overread.cli.run import audit, demo, run, split, train
from overread.cli.scan import key, scan
from overread.cli.search import search
from overread.cli.second_reader import second_reader
from overread.cli.serve import serve
from overread.cli.show import show
from overread.cli.similar import similar
from overread.cli.simulate import simulate
from overread.cli.time import time
from overread.cli.two_stage import ceiling, two_stage
from overread.core.errors import OverreadError, UnavailableError

app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
                  help="From a table of medical images to a classifier that people can trust.",
                  epilog="Start with `overread demo`, or `overread run TABLE -o runs/mine`. Nothing is ever sent anywhere.")  # fmt: skip


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="print the version and stop")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


for _command in (run, demo, audit, split, lr_find, train, predict, evaluate, report, explain, compare, direct, leaderboard, grid, readers, froc, patches, plan, calibrate, simulate, second_reader,
                 curve, shift, time, search, similar, serve, checklist, scan, show, measure, two_stage, ceiling, export, deidentify, key, doctor):  # fmt: skip
    app.command(cls=HelpWithHeadings)(expanded(_command))
app.add_typer(recipes_app, name="recipes")
app.add_typer(data_app, name="data")
app.add_typer(weights_app, name="weights")


#: No space, no quota, too large for the disk, read-only, a failing disk, too many open files, no memory, not allowed.
_REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
             errno.EACCES, errno.EPERM}  # fmt: skip


def _of_the_machine(error: Exception) -> UnavailableError | None:
    """What to say of a fault of the machine, wherever it happens: a disk or a memory that is full. None: it is none."""
    again = "then run the same command again: it goes on where it stopped"
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        given = ": ".join(map(str, filter(None, (error.filename, error.strerror))))
        todo = f"free some space or choose another folder, {again}"
        return UnavailableError("this machine refused a file", given=given, todo=todo)
    if isinstance(error, MemoryError) or "torch" in sys.modules:
        from overread.learning.device import no_memory, out_of_memory

        return no_memory(error) if out_of_memory(error) else None
    return None


class _Stopped(BaseException):
    """Ctrl-C, as something that no library on the way takes for its own."""


def _stop(number: int, frame: object) -> None:
    raise _Stopped


def main() -> None:
    """The entry point: errors as one paragraph, exit codes 0 done, 1 unsound, 2 wrong input, 130 stopped."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGINT, _stop)
    try:
        if os.environ.get("WORLD_SIZE", "1") != "1" and "RANK" in os.environ:  # torchrun's
            _one_of_several()
        else:
            app()
    except OverreadError as error:
        if "--debug" in sys.argv:
            raise
        say(f"overread: {error}")
        sys.exit(error.exit_code)
    except (OSError, MemoryError, RuntimeError) as error:
        refusal = _of_the_machine(error)
        if refusal is None or "--debug" in sys.argv:
            raise
        say(f"overread: {refusal}")
        sys.exit(refusal.exit_code)
    except _Stopped:
        say("overread: stopped. What was done is kept: run the same command again to go on.")
        sys.exit(130)


def _one_of_several() -> None:
    """The command, in the first of the processes that ``torchrun`` started; the others help it to train."""
    from overread.learning.replicas import follow, leads, process_group, processes

    if processes() == 1:
        return app()
    with process_group():
        if leads():
            app()
        else:
            follow()


if __name__ == "__main__":
    main()
