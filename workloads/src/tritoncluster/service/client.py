"""Asks a cluster's jobs service, through the gateway, with the client's certificate."""

import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dask.config

from tritoncluster.errors import ClusterUnusableError, InputError

#: Where a gateway listens, beside its scheduler.
PORT = 8787
#: Seconds for an answer to begin, and between questions that are asked again.
PATIENCE, AGAIN = 30.0, 1.0
#: Seconds to wait for a service that does not answer, as while it is replaced.
ABSENCE = 600.0


class NoAnswerError(ClusterUnusableError):
    """The service can't be reached now; it may be a moment later."""


@dataclass(frozen=True)
class Answer:
    """What came back: status, headers with small letters, content."""

    status: int
    headers: dict[str, str]
    content: bytes

    def json(self) -> Any:
        """Read it."""
        return json.loads(self.content)


class Jobs:
    """The jobs of the cluster that Dask's configuration names.

    The gateway is the one of `tritoncluster.gateway`, as in https://desk:8787, or the one beside the scheduler. It has
    to show a certificate by `tritoncluster.gateway-ca`, or by the file gateway.crt that is beside the client's own.

    Raises
    ------
    InputError
        When the configuration names no cluster, or no certificates.
    """

    def __init__(self) -> None:
        self.address = _gateway()
        tls = dask.config.get("distributed.comm.tls", {}) or {}
        own = tls.get("client") or {}
        if not own.get("cert") or not own.get("key"):
            raise InputError(
                "the jobs service wants a client's certificate, and Dask's configuration names none; use the bundle "
                "that the cluster's owner made for you"
            )
        authority = dask.config.get("tritoncluster.gateway-ca", None) or Path(own["cert"]).with_name("gateway.crt")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # That authority signs the gateway's certificate and no other: the name in it says no more.
        self._context.check_hostname = False
        try:
            self._context.load_cert_chain(own["cert"], own["key"])
            self._context.load_verify_locations(authority)
        except (OSError, ssl.SSLError) as error:
            raise InputError(
                f"the certificates for the jobs service can't be read ({error.strerror or error}); {authority} has to "
                "be the gateway's, beside the client's own: a bundle made anew has it"
            ) from None

    @contextmanager
    def _response(self, method: str, path: str, body: bytes | None) -> Iterator[http.client.HTTPResponse]:
        place = urlsplit(self.address)
        connection = http.client.HTTPSConnection(
            place.hostname or "", place.port or PORT, timeout=PATIENCE, context=self._context
        )
        try:
            try:
                connection.connect()
            except ssl.SSLCertVerificationError as error:
                raise ClusterUnusableError(
                    f"the gateway at {self.address} does not show the certificate that it is known by "
                    f"({error.verify_message}); get a new bundle from the cluster's owner"
                ) from None
            # It may have said what is wrong before it had read all.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, f"/api/jobs{path}", body)
            yield connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            why = str(error) or type(error).__name__
            raise NoAnswerError(
                f"the jobs service at {self.address} does not answer ({why}); check that the cluster runs, and that "
                "the address is right: tritoncluster.gateway in Dask's configuration, or the scheduler's host"
            ) from None
        finally:
            connection.close()

    def ask(self, method: str, path: str = "", body: bytes | None = None) -> Answer:
        """Ask once, and give what came back.

        Raises
        ------
        NoAnswerError
            When the service can't be reached.
        InputError
            When it refuses; the error says why.
        """
        with self._response(method, path, body) as response:
            answer = Answer(
                response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
            )
        self._refuse(answer)
        return answer

    def _refuse(self, answer: Answer) -> None:
        if answer.status in (502, 503, 504):
            raise NoAnswerError(
                f"the jobs service behind {self.address} does not answer; `docker compose up`, or site.yml, starts it"
            )
        if answer.status >= 400:
            try:
                why = str(answer.json()["error"])
            except (ValueError, TypeError, KeyError):
                why = (
                    f"the gateway at {self.address} refuses (HTTP status {answer.status}); get a bundle from the owner "
                    "of its cluster"
                )
            raise InputError(why)

    def insist(
        self,
        method: str,
        path: str = "",
        body: bytes | None = None,
        *,
        tell: Callable[[str], None],
        seconds: float = ABSENCE,
    ) -> Answer:
        """Ask until there is an answer; `tell` hears once that there is none."""
        deadline, told = time.monotonic() + seconds, False
        while True:
            try:
                return self.ask(method, path, body)
            except NoAnswerError as error:
                if time.monotonic() > deadline:
                    raise
                if not told:
                    tell(f"{error}; waiting for it")
                told = True
                time.sleep(AGAIN)

    def submit(self, key: str, archive: bytes, *, tell: Callable[[str], None]) -> dict[str, Any]:
        """Have a job accepted. The same key again is the same job, so that asking again is safe."""
        limit = self.ask("GET").json()["settings"]["max_upload"]
        if len(archive) > limit:
            raise InputError(
                f"what goes along has {len(archive) / 2**20:.0f} MiB, and the service takes {limit / 2**20:.0f}; put "
                "large data where the workers can read it"
            )
        answer: dict[str, Any] = self.insist("PUT", f"/{key}", archive, tell=tell, seconds=60).json()
        return answer

    @contextmanager
    def folder(self, id: str) -> Iterator[http.client.HTTPResponse]:  # noqa: A002
        """Open the archive of a job's folder."""
        with self._response("GET", f"/{id}/folder", None) as response:
            if response.status != 200:
                self._refuse(Answer(response.status, {}, response.read()))
            yield response


def _gateway() -> str:
    given = dask.config.get("tritoncluster.gateway", None)
    if given:
        place = urlsplit(str(given))
        if place.scheme != "https" or not place.hostname or place.path not in ("", "/"):
            raise InputError(f"tritoncluster.gateway has to be an address as https://desk:{PORT}, not {given}")
        return str(given).rstrip("/")
    scheduler = dask.config.get("scheduler-address", None)
    if not scheduler:
        raise InputError(
            "jobs are kept by a cluster, and none is named: give its scheduler, as in "
            "'tritoncluster --scheduler tls://desk:8786 jobs'"
        )
    host = urlsplit(scheduler if "://" in scheduler else f"tls://{scheduler}").hostname or ""
    return f"https://{f'[{host}]' if ':' in host else host}:{PORT}"
