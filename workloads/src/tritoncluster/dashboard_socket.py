"""The scheduler's HTTP on a socket in a folder, and on no port.

Dask serves dashboard, metrics and health as plain HTTP without a password, on a port that every program of its host
reaches, tasks and other users' too. A socket in the file system is there for who may open it: the gateway. The process
of a scheduler wants this as a preload module; the environment names the socket.
"""

import os
from weakref import WeakKeyDictionary

from distributed import Scheduler
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_unix_socket

#: Names the socket's path.
VARIABLE = "SCHEDULER_HTTP_SOCKET"
OWNER_ALONE = 0o600
_servers: WeakKeyDictionary[Scheduler, HTTPServer] = WeakKeyDictionary()


def dask_setup(scheduler: Scheduler) -> None:
    """Listen there, and no longer on the port that the command line has; raises OSError where it can't."""
    server = HTTPServer(scheduler.http_application)
    # A socket that a killed scheduler left is replaced.
    server.add_socket(bind_unix_socket(os.environ[VARIABLE], mode=OWNER_ALONE))
    scheduler.http_server.stop()
    _servers[scheduler] = server


def dask_teardown(scheduler: Scheduler) -> None:
    """Stop listening."""
    _servers.pop(scheduler).stop()
