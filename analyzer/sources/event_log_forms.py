"""The forms in which an event log comes as text: one recogniser and one reader each.

Invariant: what is recognised by the first 64 KB is read by the reader that stands beside the
recogniser; an event that cannot be read is counted and costs only itself.
"""

from __future__ import annotations

import html
import io
import os
import re
import textwrap
from collections.abc import Iterator
from typing import Callable, NamedTuple, TextIO

from ..errors import InputError
from ..files import reason
from ..windows_events import RawEvent
from . import event_log_blocks, event_log_objects, event_log_table, event_log_xml
from .text_file import encoding_of

_HEAD = 1 << 16
#: a larger file is not something that a person pasted
_LARGEST_PASTE = 1 << 20
_QUOTE = re.compile(r"^(?:[ \t]*>)+ ?", re.M)


class Form(NamedTuple):
    """One form of text."""

    name: str
    kind: str  #: of the source record
    is_form: Callable[[str], bool]
    read: Callable[[TextIO, str], Iterator[RawEvent | None]]  #: of the file and its beginning


def _delimited(file: TextIO, head: str) -> Iterator[RawEvent | None]:
    return event_log_table.delimited(file, event_log_table.separator_of(head) or ",")


#: the first that recognises the text reads it: blocks can hold XML, so they come before it
FORMS = (
    Form("CLIXML of PowerShell", "event log XML", event_log_objects.is_clixml,
         lambda file, _: event_log_objects.clixml(file)),
    Form("text copied out of Event Viewer", "event log text", event_log_blocks.is_copied,
         event_log_blocks.copied),
    Form("friendly view of Event Viewer", "event log text", event_log_blocks.is_friendly,
         lambda file, _: event_log_blocks.friendly(file)),
    Form("JSON", "event log JSON", event_log_objects.is_json,  # it can name the schema of XML
         lambda file, _: event_log_objects.json_events(file)),
    Form("XML", "event log XML", event_log_xml.is_events,
         lambda file, _: event_log_xml.events(file)),
    Form("text of wevtutil", "event log text", event_log_blocks.is_wevtutil,
         lambda file, _: event_log_blocks.wevtutil(file)),
    Form("rows with a separator", "event log CSV",
         lambda text: event_log_table.separator_of(text) is not None, _delimited),
    Form("table of PowerShell", "event log text", event_log_table.is_table,
         lambda file, _: event_log_table.table(file)),
    Form("list of PowerShell", "event log text", event_log_blocks.is_list,
         lambda file, _: event_log_blocks.properties(file)),
    Form("rest of an event in a post", "event log text", event_log_blocks.is_left,
         lambda file, _: event_log_blocks.left(file)),
)  # fmt: skip


def plain(text: str) -> str:
    """The text before a page escaped it, or a post quoted or indented it."""
    if "&lt;Event" in text:
        text = html.unescape(text)
    if all(line.lstrip().startswith(">") for line in text.splitlines() if line.strip()):
        text = _QUOTE.sub("", text)
    return textwrap.dedent(text)


def form_of(text: str) -> Form | None:
    """The form of a file that begins with this text."""
    text = plain(text)
    return next((form for form in FORMS if form.is_form(text)), None)


class Export:
    """Iterates over all events of an export; the counts are complete when the iteration ends."""

    def __init__(self, path: str) -> None:
        self.path, self.encoding = path, encoding_of(path)
        self.seen = 0
        self.damaged = 0
        self.is_open_ended = False  #: the end that the form has is missing
        try:
            with open(path, encoding=self.encoding, errors="replace", newline="") as file:
                self._head = file.read(_HEAD)
        except OSError as error:
            raise InputError(path, f"cannot be read: {reason(error)}") from error
        form = form_of(self._head)
        if form is None:
            raise InputError(
                path, "is not an event log", offset=0,
                expected="ElfFile, or events as XML, CSV, JSON or text",
            )  # fmt: skip
        self.form = form

    def __iter__(self) -> Iterator[RawEvent]:
        try:
            with open(self.path, encoding=self.encoding, errors="replace", newline="") as file:
                is_paste = os.path.getsize(self.path) < _LARGEST_PASTE
                text: TextIO = file
                if plain(self._head) != self._head and is_paste:
                    text = io.StringIO(plain(file.read()))
                told: set[tuple[str, int]] = set()
                for event in self._events(self.form, text):
                    told.add((event.key, event.event_id))
                    yield event
                if is_paste:
                    yield from self._others(file, told)
        except OSError as error:
            raise InputError(self.path, f"cannot be read: {reason(error)}") from error

    def _events(self, form: Form, text: TextIO) -> Iterator[RawEvent]:
        for event in form.read(text, plain(self._head)):
            if event is event_log_xml.OPEN_ENDED:
                self.is_open_ended = True
                continue
            self.seen += 1
            if event is None:
                self.damaged += 1
            else:
                yield event

    def _others(self, file: TextIO, told: set[tuple[str, int]]) -> Iterator[RawEvent]:
        """What stands in another form beside the first, as in a post.

        An event that the first form has too is most probably the same one. What is left of an
        event (the last form) would take the time of its neighbour.
        """
        head = plain(self._head)
        forms = [form for form in FORMS[:-1] if form is not self.form and form.is_form(head)]
        if not forms:
            return
        file.seek(0)
        text = plain(file.read())
        for form in forms:
            for event in form.read(io.StringIO(text), head):
                if event is None or event is event_log_xml.OPEN_ENDED:
                    continue
                if (event.key, event.event_id) not in told:
                    self.seen += 1
                    yield event
