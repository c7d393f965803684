"""Exits 0 if the Dask process of this container answers on /health."""

import http.client
import os
import sys

port = int(os.environ.get("HEALTH_PORT", "8788"))
try:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/health")
    status = connection.getresponse().status
except OSError as error:
    sys.exit(f"port {port}: {error}")
sys.exit(0 if status == http.HTTPStatus.OK else f"port {port}: HTTP status {status}")
