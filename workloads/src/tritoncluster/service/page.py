"""The pages of the service: they look as reports do, and get what they show from the service as it changes."""

import secrets
from functools import cache
from typing import TYPE_CHECKING

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

if TYPE_CHECKING:
    from tornado.web import RequestHandler

    from tritoncluster.service.model import Job


@cache
def _environment() -> Environment:
    # The look is the reports'.
    loader = ChoiceLoader([PackageLoader("tritoncluster.service"), PackageLoader("tritoncluster.report")])
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def answer(handler: "RequestHandler", job: "Job | None") -> None:
    """Answer a request with the page of a job, or that of all."""
    nonce = secrets.token_urlsafe(16)
    handler.set_header("Content-Type", "text/html; charset=utf-8")
    handler.set_header(
        "Content-Security-Policy",
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; img-src data:; "
        "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    )
    handler.write(_environment().get_template("jobs.html").render(job=job, nonce=nonce))
