"""Starts the embedded server: ``slipway serve FLAGS``, or ``slipway.py --module components.serving.main FLAGS``."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Sequence

from components.core.errors import EXIT_BAD_ARGUMENTS, EXIT_OK, SlipwayError
from components.core.version import VERSION
from components.serving.flags import Flags, parse, usage, without_effect


def main(argv: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code.

    Args:
        argv: TensorFlow Serving's flags, without the program's name.
    """
    if any(argument in ("--help", "-h") for argument in argv):
        print(usage())
        return EXIT_OK
    try:
        flags = parse(argv)
    except SlipwayError as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_ARGUMENTS
    if flags.version:
        print(f"Slipway's embedded server: {VERSION}")
        return EXIT_OK
    try:
        return _serve(flags)
    except SlipwayError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def _serve(flags: Flags) -> int:
    from components.serving.server import Server, check, configure_logging, log  # noqa: PLC0415 - see below

    # aiohttp and grpc are imported only after the flags were found right
    configure_logging()
    for name in without_effect(flags):
        log.warning("--%s has no effect in the embedded server", name)
    configs = check(flags)
    gc.disable()  # until the first load has frozen what importing TensorFlow made: nothing of it is garbage

    async def serve() -> None:
        server = Server(flags, configs)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.stop)
        await server.run()

    asyncio.run(serve())
    return EXIT_OK


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # TensorFlow's threads have nothing left to do; joining them costs up to a second
