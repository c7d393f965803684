"""The service as a process: `python -m tritoncluster.service FOLDER SOCKET`."""

import asyncio
import logging
import os
import signal
import sqlite3
import sys
from contextlib import suppress
from pathlib import Path

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_unix_socket

from tritoncluster.errors import InputError
from tritoncluster.service.api import Service
from tritoncluster.service.folders import Folders
from tritoncluster.service.settings import Settings
from tritoncluster.service.starter import TICK, Starter
from tritoncluster.service.store import Store

logger = logging.getLogger("tritoncluster.service")


async def serve(base: Path, socket: Path) -> None:
    """Serve until told to stop; jobs that run then are resumed by the next one.

    Parameters
    ----------
    base
        Folder for the queue and the jobs.
    socket
        Where the gateway finds it: a socket in the file system, which is no port that others could reach.
    """
    settings = Settings.configured()
    folders = Folders(base)
    store = Store(folders.database)
    starter = Starter(store, folders, settings)
    starter.resume()
    server = HTTPServer(Service(store, folders, settings, starter).application(), max_buffer_size=2**24)
    # Whoever is let at its folder may connect; that is the gateway, maybe under another user's number.
    server.add_socket(bind_unix_socket(str(socket), mode=0o666))
    logger.info("jobs of %s, %d at once, at %s", base, settings.at_once, socket)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    try:
        while not stopped.is_set():
            starter.tick()
            with suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), TICK)
    finally:
        server.stop()
        starter.end()
        store.close()
        folders.close()


def main() -> None:
    """Run the service, or exit with one line."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    os.umask(0o077)
    try:
        base, socket = map(Path, sys.argv[1:])
    except ValueError:
        sys.exit("jobs: give the folder for the queue, and the path of the socket")
    try:
        asyncio.run(serve(base, socket))
    except (InputError, OSError) as error:
        sys.exit(f"jobs: {error}")
    except sqlite3.OperationalError as error:
        sys.exit(f"jobs: the queue in {base} can't be opened: {error}; make room on its disk")


if __name__ == "__main__":
    main()
