"""The `fastsam3d` command. Every error the project knows becomes one line on standard error and exit code 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

__all__ = ["main"]

EXIT_BAD_INPUT, EXIT_CANCELLED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; None for the process's own.

    Returns:
        0 for success, 2 for bad usage or bad input, 130 after Ctrl+C.
    """
    argv = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        code = _run(argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader (head, less) has gone; keep Python from complaining when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(argv: list[str]) -> int:
    import typer

    from ..errors import CancelledError, FastSAM3DError
    from ..extras import what_is_missing
    from .commands import build_command

    # Typer brings click, or a copy of it, along: take the exception class from what it exports.
    click_error: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
    try:
        command = build_command()
        # Not command.main(): it has its own ideas about interrupts and broken pipes.
        with command.make_context("fastsam3d", list(argv), obj=argv) as context:
            command.invoke(context)
    except (typer.Abort, KeyboardInterrupt, CancelledError):
        return _fail("cancelled", EXIT_CANCELLED)
    except typer.Exit as error:
        return int(error.exit_code)
    except FastSAM3DError as error:
        return _fail(f"error: {error}", EXIT_BAD_INPUT)
    except ModuleNotFoundError as error:
        missing = what_is_missing(error)
        if missing is None:
            raise
        return _fail(f"error: {missing}", EXIT_BAD_INPUT)
    except MemoryError:
        return _fail("error: not enough memory; use a smaller scan or close other programs", EXIT_BAD_INPUT)
    except click_error as error:
        return _fail(f"error: {_usage_message(error)}", EXIT_BAD_INPUT)
    return 0


def _usage_message(error: BaseException) -> str:
    describe = getattr(error, "format_message", None)
    message = str(describe() if describe else error)
    context = getattr(error, "ctx", None)
    where = getattr(context, "command_path", "fastsam3d")
    return f"{message.rstrip('.')}; see {where} --help"


def _fail(message: str, code: int) -> int:
    print("fastsam3d:", " ".join(message.split()), file=sys.stderr)  # noqa: T201 - the one place that reports errors
    return code
