"""A page as one HTML file: Bokeh's code and the data of the plots are in it, and nothing is fetched."""

import os
import re
import secrets
from pathlib import Path
from tempfile import NamedTemporaryFile

from bokeh.embed import components
from bokeh.resources import Resources
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from tritoncluster.report.content import Page

_OPTION = re.compile(r"(?<!\S)--[a-z][a-z-]*(?: [\d.]*\d)?")


def options_whole(text: str) -> Markup:
    """Keep command-line options from being broken after a hyphen."""
    return Markup(_OPTION.sub(r'<span class="option">\g<0></span>', str(escape(text))))  # noqa: S704 - escaped


def render(page: Page, path: Path) -> None:
    """Write `page` to `path`, which has all of it or, when something fails, what it had before."""
    environment = Environment(
        loader=PackageLoader("tritoncluster.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["options"] = options_whole
    plots = {f"plot-{number}": panel.plot for number, panel in enumerate(page.panels)}
    code, places = components(plots, wrap_script=False) if plots else ("", {})
    html = environment.get_template("page.html").render(
        page=page,
        places=dict(zip(page.panels, places.values(), strict=True)),
        # Widgets, tables and WebGL are parts of Bokeh that no plot here uses.
        scripts=[*Resources(mode="inline", components=["bokeh"]).js_raw, code] if plots else [],
        # Scripts need this number, which nobody who gives a worker its name knows.
        nonce=secrets.token_urlsafe(16),
    )
    with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        try:
            file.write(html)
            file.flush()
            # A temporary file is for its owner alone; a report is as readable as any other new file.
            umask = os.umask(0)
            os.umask(umask)
            Path(file.name).chmod(0o666 & ~umask)
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink()
            raise
