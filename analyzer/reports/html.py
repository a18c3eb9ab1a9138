"""The report as one HTML file: nothing is loaded, nothing of an input is ever markup or script.

Invariant: the template escapes every value; the data for the script is JSON in which no ``<``,
``>`` or ``&`` is left; the content security policy allows exactly our own style and script, by
their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import pkgutil
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

from .. import __version__
from ..records import Records
from . import page

if TYPE_CHECKING:
    from jinja2 import Environment


def write(records: Records) -> Iterator[str]:
    """The page, in pieces."""
    from markupsafe import Markup

    style, script = _text("report.css"), _text("report.js")
    data = page.build(records)
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    # Markup is for our own two files, and for JSON without a mark of HTML.
    template = _environment().get_template("report.html.jinja")
    yield from template.generate(
        page=data,
        version=__version__,
        policy=policy,
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        data=Markup(_embedded(data["timeline"])),  # noqa: S704
    )


def summary(records: Records) -> str:
    """A few lines of HTML for a notebook."""
    data = page.build(records)
    return str(_environment().get_template("case.html.jinja").render(page=data))


def _embedded(data: object) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(data, separators=(",", ":"))
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256-" + base64.b64encode(digest).decode()


@cache
def _text(name: str) -> str:
    data = pkgutil.get_data(__package__, f"templates/{name}")
    assert data is not None  # the file is part of the package
    return data.decode().replace("\r\n", "\n")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(
        loader=FunctionLoader(_text),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
