"""What the tests share: where samples lie, and hand-made records.

The package under test is whatever ``import analyzer`` finds, the source tree or an installed wheel;
nothing here puts the source tree on the path.
"""

from __future__ import annotations

import json
import lzma
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from analyzer import records
from analyzer.absence import Absent
from analyzer.records import Origin, Records

REPOSITORY = Path(__file__).resolve().parent.parent
SAMPLE_TRACES = REPOSITORY / "sample-traces"
#: real files that are not part of the project
SHARED = Path(os.environ.get("DUMPSTART_SHARED") or REPOSITORY.parent / "shared" / "samples")

sys.path.insert(0, str(SAMPLE_TRACES))  # so that tests can import the generator


def shared_sample(name: str) -> Path:
    """A real file by its path in the shared folder; skips where there is none, but not in CI."""
    path = SHARED / name
    if not path.exists():
        message = f"shared sample {name} is missing; set DUMPSTART_SHARED to its folder"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


def shared_names(pattern: str) -> list[str]:
    """Names of the shared files that match, for parametrize; none where there are no samples."""
    names = sorted(path.relative_to(SHARED).as_posix() for path in SHARED.glob(pattern))
    if not names and os.environ.get("CI") == "true":
        raise RuntimeError(f"no shared samples {pattern}; set DUMPSTART_SHARED to their folder")
    return names


def make(record_type: Any, **fields: Any) -> Any:
    """A record with the given fields; the others are None, the origin a dump's header."""
    values = dict.fromkeys(record_type._fields)
    values["origin"] = Origin("machine.dmp", "header field")
    if "facts" in values:
        values["facts"] = {}
    return record_type(**{**values, **fields})


CHROMIUM = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --disable-dev-shm-usage"
).split()


def missing(message: str) -> None:
    """Skips what a machine is not fit for; in CI that fails, but on 3.9, which gets no selenium."""
    if os.environ.get("CI") == "true" and sys.version_info >= (3, 10):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: Any) -> Iterator[Any]:
    """One headless Chromium for all tests (Debian: chromium, chromium-driver)."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        missing("needs chromium and chromedriver; .ci/run installs them")
    try:
        from selenium import webdriver
    except ImportError:
        missing("needs selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in [*CHROMIUM, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield made
    made.quit()


@pytest.fixture(name="shared_sample")
def _shared_sample() -> Callable[[str], Path]:
    return shared_sample


@pytest.fixture
def sample() -> Callable[[str], Path]:
    """A file of sample-traces by its name."""

    def find(name: str) -> Path:
        path = SAMPLE_TRACES / name
        assert path.exists(), f"sample-traces/{name} is missing"
        return path

    return find


@pytest.fixture
def handmade() -> Records:
    """What a source could tell of one crash with one filter; no check has run on it."""
    untold = Absent("not-recorded", "a dump holds no record of calls", "a live capture")
    alien = Absent("not-applicable")
    made = Records()
    made.add(
        make(
            records.Source,
            path="machine.dmp",
            kind="kernel dump",
            subtype="triage dump",
            size_bytes=1444532,
            architecture="x64",
            can_tell="modules; filters",
            cannot_tell="calls of the filters; how long they took",
        ),
        make(
            records.Machine,
            build=19041,
            architecture="x64",
            processors=16,
            bugcheck=0xD1,
            bugcheck_name="DRIVER_IRQL_NOT_LESS_OR_EQUAL",
            parameter1=0xFFFFF80513370123,
            parameter2=2,
            system_time=1613871502_1234567_00,
            uptime_ns=3_700_000_000,
            dump_type=4,
            dump_type_name="triage dump",
        ),
        make(
            records.Module,
            name="dump_filter.sys",
            base=0xFFFFF80513370000,
            role="dump filter",
            stack="crash",
            loaded=True,
            original_match="same image",
        ),
        make(
            records.Filter,
            filter="dump_filter.sys",
            stack="crash",
            ring_index=0,
            ring_count=1,
            node=0xFFFFC08BE4002110,
            major_version=2,
            minor_version=0,
            max_pages_per_write=16,
            is_disabled=False,
        ),
        make(
            records.Extension,
            filter="dump_filter.sys",
            stack="crash",
            dump_type=1,
            dump_type_name="DumpTypeCrashdump",
            device_object=Absent("not-in-dump", "no page for it"),
            cylinders=121601,
            media_type=12,
            media_type_name="FixedMedia",
            tracks_per_cylinder=255,
            sectors_per_track=63,
            bytes_per_sector=512,
            disk_size=0xE8E0DB6000,
            size_of_partition_info=24,
            partition_style=1,
            partition_style_name="GPT",
            mbr_signature=alien,
            mbr_checksum=alien,
            gpt_disk_id="{6bfe1a52-0c1d-4b7e-9a3c-112233445566}",
            dump_data=0,
            size=0x58,
            flags=0,
        ),
        make(
            records.Callback,
            filter="dump_filter.sys",
            stack="crash",
            callback="Dump_Start",
            routine=0xFFFFF80513371000,
            symbol="dump_filter.sys+0x1000",
            was_called=untold,
            status=untold,
            duration_ns=untold,
        ),
    )
    return made


SPECIMENS = "../prototypes/snapshot/specimens"


@pytest.fixture(scope="session")
def truth() -> dict[str, Any]:
    """What the generator put where in the machine of the snapshot specimens."""
    found: dict[str, Any] = json.loads(shared_sample(f"{SPECIMENS}/truth.json").read_text())
    return found


@pytest.fixture(scope="session")
def specimen(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The path of an unpacked snapshot that QEMU wrote, by its kind."""
    folder = tmp_path_factory.mktemp("specimens")

    def path(kind: str) -> Path:
        target = folder / f"hung.{kind}"
        if not target.exists():
            with lzma.open(shared_sample(f"{SPECIMENS}/hung.{kind}.xz")) as packed:
                target.write_bytes(packed.read())
        return target

    return path
