"""Scans many cases into a data set: each once, by all cores or by a Dask cluster.

Invariant: after every batch the data set holds whole cases only, and a scan that goes on does what
is not done: the rows do not depend on when and how often it was stopped. A file, whatever is in it,
costs only its own case.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from itertools import chain
from typing import Any, Callable

from .. import outputs
from ..errors import InputError, UsageError
from ..files import listed
from . import need, places
from .columns import Rows, unpacked
from .dataset import DataSet
from .places import Place
from .worker import Job, analyse, begin, unreadable

#: called with what is being done, how many places are done and how many there are
Progress = Callable[[str, int, int], None]

_CHUNK_CASES = 16  # so many small cases are one task: a task costs about a millisecond
_CHUNK_BYTES = 64 << 20
_BATCH_CASES = 500
_BATCH_BYTES = 16 << 20  # compressed
_BATCH_SECONDS = 30.0
_DASK_WAIT = "20s"
_READERS = 4
#: seconds for one case: the largest dumps take one or two minutes
LIMIT_SECONDS = 600.0


class Counts:
    """What a scan did."""

    def __init__(self) -> None:
        self.places = self.analysed = self.done_before = self.copies = self.removed = 0
        self.seconds = 0.0
        self.bad: list[tuple[str, str, str]] = []  #: location, outcome and reason, the first 1,000
        self.outcomes: dict[str, int] = {}


class Workers:
    """An executor that can be made anew when a worker died."""

    def __init__(self, jobs: int, scheduler: str = "", given: Executor | None = None) -> None:
        self.scheduler, self.jobs, self._given = scheduler, jobs, given
        self._client: Any = None
        self.executor: Executor = given or self._made()

    def _made(self) -> Executor:
        if self.scheduler:
            client = need("distributed", "dask").Client
            try:
                self._client = client(self.scheduler, timeout=_DASK_WAIT, set_as_default=False)
            except (OSError, ValueError) as error:
                problem = f"the scheduler cannot be reached: {error}"
                raise InputError(self.scheduler, problem) from None
            self.jobs = max(1, sum(self._client.ncores().values()))
            executor: Executor = self._client.get_executor(pure=False)
            return executor
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        # spawn: the same on every system, and no thread or lock of ours is copied
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.jobs, context, initializer=begin)

    def again(self) -> None:
        """A new pool in place of a broken one; a cluster mends itself."""
        if not self.scheduler and self._given is None:
            self.executor.shutdown(wait=False, cancel_futures=True)
            self.executor = self._made()

    def close(self) -> None:
        """Ends them, whatever they are doing."""
        if self._client is not None:
            self._client.close()
        elif self._given is None:
            running = list((getattr(self.executor, "_processes", None) or {}).values())
            self.executor.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.terminate()


class Scan:
    """One run: what is to be done, what is under way, what waits to be written."""

    def __init__(
        self, data: DataSet, redacted: bool, progress: Progress | None, limit: float = 0
    ) -> None:
        self.data, self.redacted, self.progress, self.limit = data, redacted, progress, limit
        self.counts = Counts()
        self.total = 0
        self._parts: list[tuple[int, dict[str, list[bytes]]]] = []
        self._cases = self._bytes = 0
        self._begin = self._written = time.monotonic()
        # What is known is kept as 16 bytes a case and a place: a million take some 0.3 GB.
        self.known: set[bytes] = set()
        self.places: dict[bytes, bytes] = {}
        for _, case, outcome in data.column_rows("cases", "case", "outcome"):
            if outcome != "failed":
                self.known.add(_short(case))
        for _, case, location in data.column_rows("locations", "case", "location"):
            self.places[_key(location)] = _short(case)

    def todo(self, found: Iterable[Place]) -> Iterator[list[Job]]:
        """Cases not done yet, in tasks of a size that is worth a message."""
        chunk: list[Job] = []
        size = 0
        for place, identity in _identified(found):
            self.counts.places += 1
            try:
                case, length = identity.result()
            except InputError as error:
                # A digest of a name could be guessed at, so a redacted one has none.
                name = _key(place.location).hex()[:25]
                case = f"unread-{self.counts.places:06d}" if self.redacted else f"unread-{name}"
                bad = [(Job(place, case, 0), "failed", str(error))]
                self._take(0, unreadable(bad, self.redacted))
                continue
            short, key = _short(case), _key(place.location)
            if short in self.known:
                self._seen(place, case, length, self.places.get(key) == short)
                self.places[key] = short
                continue
            self.known.add(short)
            self.places[key] = short
            chunk.append(Job(place, case, length))
            size += length
            if len(chunk) >= _CHUNK_CASES or size >= _CHUNK_BYTES:
                yield chunk
                chunk, size = [], 0
        if chunk:
            yield chunk

    def _seen(self, place: Place, case: str, size: int, is_known: bool) -> None:
        """A place whose content is done or under way."""
        if is_known:
            self.counts.done_before += 1
            return
        self.counts.copies += 1
        if not self.redacted:
            rows = Rows()
            rows.add("locations", case, [place.location, size])
            self._take(0, rows.packed())

    def _take(self, number: int, tables: dict[str, list[bytes]]) -> None:
        """Results, to be written with the next batch."""
        self._parts.append((number, tables))
        for cases in unpacked(tables.get("cases", ())):
            self._cases += len(cases)
            self.counts.analysed += len(cases)
            told = (cases[name].to_pylist() for name in ("location", "outcome", "reason"))
            for location, outcome, reason in zip(*told):
                self.counts.outcomes[outcome] = self.counts.outcomes.get(outcome, 0) + 1
                if outcome != "analysed" and len(self.counts.bad) < 1000:
                    self.counts.bad.append((location or "(left out)", outcome, reason))
        self._bytes += sum(map(len, chain.from_iterable(tables.values())))
        late = time.monotonic() - self._written > _BATCH_SECONDS
        if self._cases >= _BATCH_CASES or self._bytes >= _BATCH_BYTES or late:
            self.write()

    def write(self) -> None:
        """Writes what has come in as one batch."""
        if self._parts:
            self._parts.sort(key=lambda part: part[0])
            pieces: dict[str, list[bytes]] = {}
            for _, tables in self._parts:
                for name, some in tables.items():
                    pieces.setdefault(name, []).extend(some)
            self.data.add(pieces)
        self._parts, self._cases, self._bytes = [], 0, 0
        self._written = time.monotonic()

    def run(self, found: Iterable[Place], workers: Workers) -> None:
        """Everything to the end; at most a few tasks wait for a worker, so memory stays flat."""
        chunks = enumerate(self.todo(found), 1)
        under_way: dict[Future[dict[str, list[bytes]]], tuple[int, list[Job]]] = {}
        suspects: list[tuple[int, list[Job]]] = []
        is_more = True
        while is_more or under_way:
            while is_more and not suspects and len(under_way) < 2 * workers.jobs + 1:
                try:
                    number, jobs = next(chunks)
                except StopIteration:
                    is_more = False
                    break
                try:
                    future = workers.executor.submit(analyse, jobs, self.redacted, self.limit)
                except BrokenExecutor:
                    suspects.append((number, jobs))
                    break
                under_way[future] = (number, jobs)
            ended = wait(under_way, return_when=FIRST_COMPLETED).done if under_way else set()
            for future in ended:
                number, jobs = under_way.pop(future)
                try:
                    self._take(number, future.result())
                except Exception:  # noqa: BLE001  # the worker died, or the result was lost
                    suspects.append((number, jobs))
            if suspects and not under_way:
                self._one_by_one(suspects, workers)
                suspects = []
            self._show()
        self.write()

    def _one_by_one(self, suspects: list[tuple[int, list[Job]]], workers: Workers) -> None:
        """Cases of tasks whose worker died, alone each, so that only the guilty one is lost."""
        workers.again()
        for number, jobs in sorted(suspects):
            for job in jobs:
                try:
                    future = workers.executor.submit(analyse, [job], self.redacted, self.limit)
                    self._take(number, future.result())
                except Exception as error:  # noqa: BLE001
                    workers.again()
                    why = f"the process that analysed it ended ({type(error).__name__})"
                    self._take(number, unreadable([(job, "failed", why)], self.redacted))
                self._show()

    def _show(self) -> None:
        if self.progress is None:
            return
        counts, seconds = self.counts, max(time.monotonic() - self._begin, 1e-3)
        done = counts.analysed + counts.done_before + counts.copies
        rate = counts.analysed / seconds
        left = (self.total - done) / rate if rate else 0
        text = f"{done:,} of {self.total:,}, {rate:.0f}/s, {left:.0f} s left"
        self.progress(text, done, self.total)


def _identified(found: Iterable[Place]) -> Iterator[tuple[Place, Future[tuple[str, int]]]]:
    """Each place in order with its identity; some are read at a time, because all bytes are."""
    with ThreadPoolExecutor(_READERS) as pool:
        waiting: deque[tuple[Place, Future[tuple[str, int]]]] = deque()
        try:
            for place in found:
                waiting.append((place, pool.submit(places.identity, place)))
                if len(waiting) > 2 * _READERS:
                    yield waiting.popleft()
            yield from waiting
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _short(case: str) -> bytes:
    return bytes.fromhex(case) if len(case) == 32 and "-" not in case else case.encode()


def _key(location: str) -> bytes:
    import hashlib

    return hashlib.blake2b(location.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def scan(
    sources: Sequence[str] | str, output: str, *, jobs: int = 0, scheduler: str = "",
    per: str = "file", redacted: bool = False, progress: Progress | None = None,
    executor: Executor | None = None, limit: float = LIMIT_SECONDS,
) -> Counts:  # fmt: skip
    """Analyses every case behind the sources that the data set does not hold yet.

    ``jobs`` processes of this machine (0: one a core), or the Dask cluster at ``scheduler``, or the
    workers of an ``executor``. A case may take ``limit`` seconds (0: any time).
    """
    sources = listed(sources)
    if not sources:
        raise UsageError("no source was given")
    need("pyarrow.parquet", "parquet")
    places.check(sources)
    outputs.protect_folder(output, places.local(sources))
    data = DataSet(output).write({"redacted": redacted, "case_per": per})
    begin = time.monotonic()
    try:
        run = Scan(data, redacted, progress, limit)
        if progress is not None:
            progress("listing", 0, 1)
            run.total = sum(1 for _ in places.places(sources, per))
        workers = Workers(jobs or _cores(), scheduler, executor)
        try:
            run.run(places.places(sources, per), workers)
        except BaseException:
            run.write()  # what came in is kept
            raise
        finally:
            workers.close()
        run.counts.removed = data.tidy()
    finally:
        data.close()
    run.counts.seconds = time.monotonic() - begin
    return run.counts


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
