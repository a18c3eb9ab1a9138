"""Analyses cases in a process of a scan: each on its own, and in a limited time.

Invariant: a case costs only itself and its limit, whatever is in it; nothing of a case that fails
on the way is in the rows but the failure.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from .. import __version__, temporary
from ..case import open_case
from ..errors import AnalyzerError, UnsupportedError
from . import places
from .columns import Rows
from .places import Place
from .redact import redact

#: a case that cannot be stopped within this time costs its process
_GRACE_SECONDS = 30.0


class Job(NamedTuple):
    """One case to analyse."""

    place: Place
    case: str
    size: int


class _Late(BaseException):
    """A case took longer than it may; no Exception, so that no reader of files takes it."""


#: True in a process that a scan made for itself
_is_worker = False


def analyse(jobs: Sequence[Job], redacted: bool, limit: float = 0) -> dict[str, list[bytes]]:
    """The tables of some cases, packed; each in ``limit`` seconds (0: any). Runs in any process."""
    rows = Rows()
    for job in jobs:
        _analyse(rows, job, redacted, limit)
    return rows.packed()


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raises _Late in what runs longer; what does not even heed that ends with its process."""
    if not seconds:
        yield
        return
    caller, ended = ctypes.c_ulong(threading.get_ident()), threading.Event()
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc

    def watch() -> None:
        if ended.wait(seconds):
            return
        raise_in(caller, ctypes.py_object(_Late))
        if not ended.wait(_GRACE_SECONDS) and _is_worker:
            _end(1)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        raise_in(caller, None)  # one that came too late to be of use


def _analyse(rows: Rows, job: Job, redacted: bool, limit: float) -> None:
    location = None if redacted else job.place.location
    outcome, left_out = "analysed", 0
    reason: str | None = None
    kinds: str | None = None
    made = Rows()  # nothing of a case that fails on the way stays
    folder = ""
    try:
        with _limited(limit):
            if any(map(places.is_url, job.place.files)):
                folder = temporary.make()
            paths, names = _fetched(job.place, folder)
            records = open_case(paths).records
            found = {str(row.kind) for row in records["sources"] if isinstance(row.kind, str)}
            if redacted:
                records = redact(records)
            rename = (lambda text: _renamed(text, names)) if names else None
            left = made.add_records(job.case, records, rename)
        kinds, left_out = "; ".join(sorted(found)), left
        rows.extend(made)
    except _Late:
        outcome, reason = "failed", f"it took longer than {limit:g} s"
    except UnsupportedError as error:
        outcome, reason = "passed-over", str(error)
    except AnalyzerError as error:
        outcome, reason = "unusable", str(error)
    except MemoryError:
        outcome, reason = "failed", "the memory was not enough"
    except Exception as error:  # noqa: BLE001  # a mistake of ours must not end the scan
        outcome, reason = "failed", f"internal error: {type(error).__name__}: {error}"
    finally:
        if folder:
            temporary.remove(folder)
    if redacted and reason is not None:
        is_ours = outcome == "failed"
        reason = reason.partition(":")[0] if is_ours else "left out: it may name files and people"
    size, count = job.size, len(job.place.files)
    cells = [outcome, reason, location, count, size, kinds, left_out, __version__]
    rows.add("cases", job.case, cells)
    if location is not None:
        rows.add("locations", job.case, [location, size])


def _fetched(place: Place, folder: str) -> tuple[list[str], dict[str, str]]:
    """Local paths of the files of a case, and which URL each copy stands for."""
    paths, names = [], {}
    for number, path in enumerate(place.files):
        if places.is_url(path):
            target = os.path.join(folder, f"{number:05d}")
            places.fetch(path, target)
            names[target] = path
            path = target
        paths.append(path)
    return paths, names


def _renamed(text: str, names: dict[str, str]) -> str:
    for path, name in names.items():
        if path in text:
            text = text.replace(path, name)
    return text


def unreadable(jobs: Iterable[tuple[Job, str, str]], redacted: bool) -> dict[str, list[bytes]]:
    """The rows of cases that could not be analysed, with outcome and reason."""
    rows = Rows()
    for job, outcome, reason in jobs:
        location = None if redacted else job.place.location
        said = "left out: it may name files and people" if redacted else reason
        cells = [outcome, said, location, len(job.place.files), job.size, None, 0, __version__]
        rows.add("cases", job.case, cells)
        if location is not None:
            rows.add("locations", job.case, [location, job.size])
    return rows.packed()


def begin() -> None:
    """Makes this process a worker, which ends with its parent and leaves nothing behind."""
    global _is_worker  # noqa: PLW0603
    _is_worker = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the scan, which ends its workers
    signal.signal(signal.SIGTERM, lambda *_: _end(0))
    _watch_parent()


def _end(code: int) -> None:
    temporary.remove_all()
    os._exit(code)


def _watch_parent() -> None:
    """Ends this process with its parent: a worker of a killed scan would wait for ever."""
    import multiprocessing
    from multiprocessing.connection import wait as wait_for

    parent = multiprocessing.parent_process()
    if parent is not None:
        sentinel = parent.sentinel

        def watch() -> None:
            wait_for([sentinel])
            _end(1)

        threading.Thread(target=watch, daemon=True).start()
