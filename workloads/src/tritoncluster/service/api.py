"""What is served: `/api/jobs` for programs, `/jobs` for browsers.

The gateway is the only way in. It has seen a client's certificate before it passes on what begins with `/api/jobs`, and
a password before it passes on what begins with `/jobs`; it says whose.
"""

import asyncio
import hashlib
import logging
import os
import re
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from tornado.iostream import StreamClosedError
from tornado.web import Application, HTTPError, RequestHandler, stream_request_body

from tritoncluster import notebooks
from tritoncluster.errors import InputError
from tritoncluster.names import person
from tritoncluster.quantities import memory as in_words
from tritoncluster.service import folders, page, upload
from tritoncluster.service.folders import Folders
from tritoncluster.service.model import Job, Request, State, is_key, new_id
from tritoncluster.service.settings import Settings
from tritoncluster.service.starter import Starter
from tritoncluster.service.store import Store

logger = logging.getLogger(__name__)

#: The gateway's word for whose certificate or password it was.
CLIENT = "X-Client-Name"
#: The most of a log that one answer has.
LOG_BLOCK = 2**20
BLOCK = 2**18
#: The most of what has ended that the page lists.
ENDED_SHOWN = 100
#: A job's page can do nothing in the name of who looks at it: it is whatever the job wrote.
SANDBOX = "sandbox allow-scripts"


class Service:
    """What the handlers have in common.

    Parameters
    ----------
    store, folders, settings, starter
        The service's.
    """

    def __init__(self, store: Store, folders: Folders, settings: Settings, starter: Starter) -> None:
        self.store, self.folders, self.settings, self.starter = store, folders, settings, starter

    def application(self) -> Application:
        """Give what a server serves."""
        job = "(?P<id>[a-z2-9]{5})"
        routes: list[tuple[str, type[RequestHandler]]] = [
            ("/health", Health),
            (r"/api/jobs", List),
            (r"/api/jobs/(?P<key>[0-9a-f-]{36})", Submit),
            (rf"/api/jobs/{job}", Show),
            (rf"/api/jobs/{job}/log", Log),
            (rf"/api/jobs/{job}/folder", Folder),
            (rf"/api/jobs/{job}/(?P<action>cancel|retry)", Act),
            (r"/jobs/?", Overview),
            (r"/jobs/state\.json", List),
            (rf"/jobs/{job}", Details),
            (rf"/jobs/{job}/state\.json", Show),
            (rf"/jobs/{job}/log", Log),
            (rf"/jobs/{job}/(?P<action>cancel|retry)", Act),
            (rf"/jobs/{job}/(?P<name>{'|'.join(map(re.escape, folders.SHOWN))})", File),
        ]
        return Application([(path, handler, {"service": self}) for path, handler in routes], log_function=_no_log)

    def described(self, job: Job, waiting: list[str] | None = None) -> dict[str, Any]:
        """Give a job as JSON has it, with how far it is and what there is to see.

        `waiting` is what the starter gave of that name, if it was asked before.
        """
        folder = self.folders.of(job.id)
        waiting = self.starter.waiting() if waiting is None else waiting
        return job.to_json() | {
            "progress": folders.progress(folder) if job.state is not State.WAITING else None,
            "report": (folder / "report.html").is_file(),
            "why": self.starter.why(job, waiting),
            "place": waiting.index(job.id) + 1 if job.id in waiting else None,
        }


def check_runnable(request: Request) -> None:
    """Refuse a notebook where nothing runs it; raises InputError."""
    scripts = request.words[request.words.index("--") + 1 :][:1] if "--" in request.words else ()
    if request.kind == "submit" and any(map(notebooks.is_one, scripts)) and not notebooks.can_run():
        raise InputError(
            "this cluster's jobs service runs no notebooks: its image has to be the notebook's (JOBS_IMAGE in .env, "
            "notebook: true in the inventory)"
        )


def _no_log(handler: RequestHandler) -> None:
    """Leave out what all who look do each second."""


class Handler(RequestHandler):
    """Refuses what comes around the gateway, or from another page than ours."""

    service: Service

    def initialize(self, service: Service) -> None:
        """Take what the routes give."""
        self.service = service

    @property
    def who(self) -> str:
        """Who asks: the certificate's name, without what all of them begin with, or the password's user."""
        return person(self.request.headers.get(CLIENT, ""))

    @property
    def for_programs(self) -> bool:
        """Whether it is the part with certificates."""
        return self.request.path.startswith("/api/")

    def prepare(self) -> Any:
        """Let in who may come in."""
        if self.for_programs and not self.who:
            raise HTTPError(403, reason="a client's certificate is needed")
        origin = self.request.headers.get("Origin")
        if self.request.method in ("GET", "HEAD"):
            return
        if self.for_programs and origin is not None:
            raise HTTPError(403, reason="this is for programs; pages use /jobs")
        # Browsers send the password from any page, but say from which.
        if not self.for_programs and origin != f"https://{self.request.host}":
            raise HTTPError(403, reason="only pages of this address may do that")

    def set_default_headers(self) -> None:
        """Let nobody keep or reinterpret what is sent."""
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "same-origin")
        self.clear_header("Server")

    def write_error(self, status_code: int, **kwargs: Any) -> None:  # noqa: ARG002
        """Say what is wrong in one line."""
        error = kwargs.get("exc_info", (None, None))[1]
        if isinstance(error, (OSError, sqlite3.OperationalError)):
            why = getattr(error, "strerror", None) or error
            self.set_status(507, f"the jobs service can't write to its disk: {why}; 'jobs remove ID' makes room there")
        self.finish({"error": self._reason})

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log what a full disk says in one line."""
        if isinstance(value, (OSError, sqlite3.OperationalError)):
            logger.warning("%s %s: %s", self.request.method, self.request.path, value)
        else:
            super().log_exception(typ, value, tb)

    def job(self, id: str) -> Job:  # noqa: A002
        """Give a job, or end with 404."""
        if found := self.service.store.get(id):
            return found
        raise HTTPError(404, reason=f"there is no job {id}")


class Health(Handler):
    """For the container's check."""

    def prepare(self) -> None:
        """Let anybody ask."""

    def get(self) -> None:
        """Say that it is there."""
        self.write("ok\n")


class List(Handler):
    """All jobs."""

    def get(self) -> None:
        """List them, with what holds for all."""
        waiting = self.service.starter.waiting()
        found = self.service.store.all(-1 if self.for_programs else ENDED_SHOWN)
        jobs = [self.service.described(job, waiting) for job in found]
        self.write({"jobs": jobs, "settings": asdict(self.service.settings), "now": time.time()})


class Show(Handler):
    """One job."""

    def get(self, id: str) -> None:  # noqa: A002
        """Describe it."""
        self.write(self.service.described(self.job(id)) | {"now": time.time()})

    def delete(self, id: str) -> None:  # noqa: A002
        """Remove it, with its folder."""
        job = self.job(id)
        if not self.for_programs:
            raise HTTPError(405)
        if not self.service.starter.remove(id):
            state = job.state if not job.state.ended else "coming to its end"
            raise HTTPError(409, reason=f"job {id} is {state}; cancel it first, or wait for its end")
        self.write({"id": id, "removed": True})


class Act(Handler):
    """What changes a job's state."""

    def post(self, id: str, action: str) -> None:  # noqa: A002
        """Cancel it, or let it run again."""
        job = self.job(id)
        if action == "cancel" and not self.service.starter.cancel(id, self.who):
            raise HTTPError(409, reason=f"job {id} is over: it {_was(job)}")
        if action == "retry" and not self.service.store.retry(id):
            raise HTTPError(409, reason=f"job {id} {_was(job)}; only what failed or was cancelled can be tried again")
        self.write(self.service.described(self.job(id)))


def _was(job: Job) -> str:
    return {State.CANCELLED: "was cancelled", State.FAILED: "failed"}.get(job.state, f"is {job.state}")


class Log(Handler):
    """A job's log, from a place on."""

    def get(self, id: str) -> None:  # noqa: A002
        """Give what there is from byte `from` on, and where to go on in a header."""
        job = self.job(id)
        begin = self.get_query_argument("from", "0")
        if not re.fullmatch(r"[0-9]{1,15}", begin):
            raise HTTPError(400, reason="from has to be a number of bytes")
        start, content = int(begin), b""
        if log := upload.open_plain(self.service.folders.of(id) / folders.LOG):
            with log:
                # One that was cut is read from its new beginning.
                if start > os.fstat(log.fileno()).st_size:
                    start = 0
                log.seek(start)
                content = log.read(LOG_BLOCK)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.set_header("X-Log-Next", str(start + len(content)))
        self.set_header("X-Job-State", str(job.state))
        self.write(content)


class File(Handler):
    """What a job's folder has to show."""

    async def get(self, id: str, name: str) -> None:  # noqa: A002
        """Give one of the files that are known by name."""
        self.job(id)
        file = upload.open_plain(self.service.folders.of(id) / name)
        if file is None:
            raise HTTPError(404, reason=f"job {id} has no {name}")
        self.set_header("Content-Type", f"{folders.SHOWN[name]}; charset=utf-8")
        self.set_header("Content-Security-Policy", SANDBOX)
        with file:
            while block := file.read(BLOCK):
                self.write(block)
                await self.flush()


class Folder(Handler):
    """A job's whole folder, as a tar archive."""

    async def get(self, id: str) -> None:  # noqa: A002
        """Send it piece by piece."""
        self.job(id)
        self.set_header("Content-Type", "application/x-tar")
        self.set_header("X-Accel-Buffering", "no")
        with suppress(StreamClosedError):
            for block in _archive(self.service.folders.of(id)):
                self.write(block)
                await self.flush()


def _archive(folder: Path) -> Iterator[bytes]:
    """Make a tar archive of what is in a job's folder; a file that grows meanwhile has the length that it had."""
    for name, file in upload.fetched(folder, lambda path: path.partition("/")[0] not in folders.INTERNAL):
        with file:
            member = tarfile.TarInfo(name)
            left = member.size = os.fstat(file.fileno()).st_size
            yield member.tobuf(tarfile.PAX_FORMAT)
            while left:
                # What it has lost meanwhile is zeros, as in a file with a hole.
                block = file.read(min(BLOCK, left)) or bytes(min(BLOCK, left))
                left -= len(block)
                yield block
            yield bytes(-member.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


@stream_request_body
class Submit(Handler):
    """Takes a job, once for each key however often it is sent."""

    _file: IO[bytes] | None = None
    #: Why what came is not all on the disk.
    _broken: OSError | None = None

    def prepare(self) -> None:
        """Refuse what is too large before it is sent."""
        super().prepare()
        self._path = self.service.folders.incoming / f"{uuid4().hex}.tar"
        limit = self.service.settings.max_upload
        length = self.request.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > limit:
            raise HTTPError(413, reason=f"what is sent along has {length} bytes, {in_words(limit)} is the most")
        if self.request.method == "PUT" and self.for_programs:
            self.request.connection.set_max_body_size(limit)  # type: ignore[union-attr]
            self._digest = hashlib.sha256()
            self._file = self._path.open("xb")

    def data_received(self, chunk: bytes) -> None:
        """Keep what comes on disk."""
        if self._file is not None and self._broken is None:
            self._digest.update(chunk)
            try:
                self._file.write(chunk)
            except OSError as error:
                # Whoever still sends would not hear of it.
                self._broken = error

    async def put(self, key: str) -> None:
        """Accept it."""
        if self._file is None or not is_key(key):
            raise HTTPError(400, reason="a job's key is a UUID")
        if self._broken:
            raise self._broken
        digest = self._digest.hexdigest()
        if not self._answer_known(key, digest):
            made = self.service.folders.incoming / uuid4().hex
            try:
                self._file.close()
                limit = self.service.settings.max_upload
                request = await asyncio.to_thread(upload.unpack, self._path, made, limit)
                check_runnable(request)
                self._accept(key, digest, made, request)
            except InputError as error:
                raise HTTPError(400, reason=str(error)) from None
            finally:
                folders.remove(made)

    def _accept(self, key: str, digest: str, made: Path, request: Any) -> None:
        store, jobs = self.service.store, self.service.folders
        # It may have come twice at a time.
        if self._answer_known(key, digest):
            return
        while store.get(id_ := new_id()) or jobs.of(id_).exists():
            pass
        # The folder first: who is told of a job finds it whole. Without its row, it is nobody's and is swept.
        made.rename(jobs.of(id_))
        upload.sync(jobs.jobs)
        try:
            store.add(id_, key, digest, self.who, request)
        except BaseException:
            folders.remove(jobs.of(id_))
            raise
        logger.info("job %s of %s: accepted", id_, self.who)
        self._answer(id_, 201)

    def _answer_known(self, key: str, digest: str) -> bool:
        if not (known := self.service.store.known(key)):
            return False
        if known[1] != digest:
            raise HTTPError(409, reason=f"another job has this key: {known[0].id}")
        self._answer(known[0].id, 200)
        return True

    def _answer(self, id: str, status: int) -> None:  # noqa: A002
        self.set_status(status)
        self.write(self.service.described(self.job(id)))

    def on_finish(self) -> None:
        """Leave nothing behind."""
        self.on_connection_close()

    def on_connection_close(self) -> None:
        """Leave nothing behind of what was broken off."""
        if self._file is not None:
            # What it still has to write may find no room.
            with suppress(OSError):
                self._file.close()
            self._path.unlink(missing_ok=True)


class Overview(Handler):
    """The page of all jobs."""

    def get(self) -> None:
        """Show it."""
        page.answer(self, None)


class Details(Handler):
    """The page of one job."""

    def get(self, id: str) -> None:  # noqa: A002
        """Show it."""
        page.answer(self, self.job(id))
