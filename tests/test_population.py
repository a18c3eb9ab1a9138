"""Populations: planted causes are found first, chance is not found, and one case is judged."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor

import pytest

pa = pytest.importorskip("pyarrow")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import population  # noqa: E402
from conftest import make, shared_sample  # noqa: E402
from generator_logs import build, kernel  # noqa: E402

from analyzer import records  # noqa: E402
from analyzer.cli import main  # noqa: E402
from analyzer.errors import InputError  # noqa: E402
from analyzer.population import baseline, measures, notebook, report, scan, statistics, study  # noqa: E402
from analyzer.population.dataset import DataSet  # noqa: E402
from analyzer.population.measures import Measure  # noqa: E402
from analyzer.tables import SCHEMA  # noqa: E402

START = Measure("duration of Dump_Start", population.FILTER, "ns", "more")
SPEED = Measure("speed of writing memory", "", "MB/s", "less")
FAILED = Measure("failed dump", "", "yes", "more")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """The data set of 300 cases with planted causes."""
    folder = tmp_path_factory.mktemp("fleet")
    population.write(folder / "in", 300)
    with ThreadPoolExecutor(1) as executor:
        counts = scan.scan([str(folder / "in")], str(folder / "out"), jobs=1, executor=executor)
    assert counts.places == 300
    return folder / "out"


@pytest.fixture(scope="module")
def studied(fleet):
    """The comparison of that data set."""
    return study.Study(study.table_of(DataSet(str(fleet)).read()))


def made(seed, cases=400):
    """A table of cases with three measures and traits that have nothing to do with them."""
    chance = np.random.default_rng(seed)
    index = [f"{n:032x}" for n in range(cases)]
    table = study.Table()
    table.cases, table.outcomes = cases, {"analysed": cases}
    values = {
        START: np.exp(chance.normal(14, 0.3, cases)),
        SPEED: np.exp(chance.normal(5, 0.2, cases)),
        FAILED: (chance.random(cases) < 0.05).astype(float),
    }
    table._measures = {key: [pd.Series(x, index)] for key, x in values.items()}
    for name, levels in (("version of a.sys", 4), ("build", 6), ("disk", 12), ("dump type", 3)):
        level = chance.integers(0, levels, cases)
        table.label(name, pd.Series([f"v{n}" for n in level], index, dtype="string"))
    table._times = [pd.Series(chance.integers(0, 10**18, cases), index)]
    return table


def test_planted_causes_are_the_findings(studied):
    """The slow version and the slow disk are the first two, and nothing else stands out."""
    found = [(row.measure, row.trait, row.value) for row in studied.differences]
    version = (START, f"version of {population.FILTER}", f"{population.VERSIONS[1]:08X}10000")
    disk = (SPEED, "disk", f"{population.DISKS[-1]} bytes, sectors of 512")
    assert set(found) == {version, disk}
    by = {row.trait: row for row in studied.differences}
    slow = by[f"version of {population.FILTER}"]
    # planted: twice as long, a third of the speed
    assert slow.inside / slow.outside == pytest.approx(2, rel=0.1)
    assert by["disk"].inside / by["disk"].outside == pytest.approx(1 / 3, rel=0.1)
    # first found after the rollout of the version on day 120
    assert slow.since >= population.START + population.ROLLOUT * population.DAY
    assert all(row.is_worse for row in studied.differences)


@pytest.mark.slow
def test_chance_is_not_found():
    """Of 100 populations without a cause at most three give any finding."""
    wrong = [seed for seed in range(100) if study.Study(made(seed)).differences]
    assert len(wrong) <= 3  # the error of the whole family is held below 1 in 100


def test_change_over_time():
    """A change on a day that no trait explains is found with its date and direction."""
    table = made(5)
    when = table._times[0]
    later = (when > 5 * 10**17).to_numpy()
    table._measures[SPEED][0][later] *= 0.5
    found = study.Study(table).differences
    assert [(row.measure, row.trait) for row in found] == [(SPEED, "time")]
    assert found[0].is_worse
    assert found[0].cases == pytest.approx(int(later.sum()), abs=5)


def test_failures_by_a_trait():
    """A trait that goes with failing dumps is found by their share."""
    table = made(6)
    bad = (table._traits["disk"][0] == "v3").to_numpy(bool)
    table._measures[FAILED][0][bad] = 1.0
    found = study.Study(table).differences
    assert [(row.measure, row.trait, row.value) for row in found] == [(FAILED, "disk", "v3")]
    assert found[0].inside == 1.0


def test_better_is_no_warning():
    """A group that is faster is told as better."""
    table = made(7)
    fast = (table._traits["disk"][0] == "v3").to_numpy(bool)
    table._measures[START][0][fast] /= 10
    found = study.Study(table).differences
    assert [row.is_worse for row in found] == [False]
    assert "\nBetter\n" in "".join(report.text(study.Study(table)))


def test_echo_of_a_cause_is_not_found():
    """A trait that mostly goes along with the true one is no second finding."""
    table = made(8)
    version = table._traits["version of a.sys"][0]
    chance = np.random.default_rng(8)
    slow = (version == "v1").to_numpy(bool)
    echo = np.where(chance.random(len(slow)) < 0.9, slow, ~slow)
    table.label("site", pd.Series(np.where(echo, "north", "south"), version.index, dtype="string"))
    table._measures[START][0][slow] *= 3
    found = study.Study(table).differences
    assert [(row.trait, row.value) for row in found] == [("version of a.sys", "v1")]


def test_small_groups_are_not_compared():
    """A group of seven is not compared, however far off, and the report counts it."""
    table = made(9, cases=60)
    index = table._measures[START][0].index
    table._traits = {"disk": [pd.Series(["odd"] * 7 + ["even"] * 53, index, dtype="string")]}
    table._times = []
    table._measures[START][0].iloc[:7] *= 100
    done = study.Study(table)
    assert done.differences == []
    assert done.too_small > 0
    assert "fewer than 8 cases" in "".join(report.text(done))


def test_outliers():
    """A single case far from the others is listed with its distance."""
    table = made(10)
    table._measures[START][0].iloc[17] *= 1000
    rows = study.Study(table).outliers
    assert [(row.measure, row.case) for row in rows] == [(START, f"{17:032x}")]


def test_rank_sum_by_hand():
    """U of 4 and 5 above 1, 2, 3 is 6 of 6 pairs: delta 1; z = (3 - 0.5) / sqrt(3)."""
    ranked, ties = statistics.ranks(np.array([4.0, 1, 5, 2, 3]))
    seen = statistics.rank_sum(ranked, ties, np.array([True, False, True, False, False]))
    assert seen.delta == 1
    assert seen.z == pytest.approx(2.5 / math.sqrt(2 * 3 / 12 * 6))


def test_ties_share_their_rank():
    """2 and 2 share ranks 2 and 3."""
    ranked, ties = statistics.ranks(np.array([2.0, 1, 2]))
    assert ranked.tolist() == [2.5, 1, 2.5]
    assert ties == 2**3 - 2


def test_fisher_by_hand():
    """The lady tasting tea: 3 of 4 right is 34 of 70, two-sided."""
    assert statistics.fisher(3, 4, 1, 4) == pytest.approx(34 / 70)


def test_holm_by_hand():
    """0.01, 0.04, 0.03 become 0.03, 0.06, 0.06."""
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_rank_sum_is_right_under_chance():
    """Of 2,000 comparisons of equal groups about 1 % have p below 0.01."""
    chance = np.random.default_rng(1)
    inside = np.arange(40) < 10
    below = 0
    for _ in range(2000):
        ranked, ties = statistics.ranks(chance.normal(size=40))
        below += statistics.rank_sum(ranked, ties, inside).p < 0.01
    assert below <= 35  # 20 expected, with three standard deviations


def test_needed_columns_exist():
    """The columns that a study reads are columns of their tables."""
    for table, names in measures.NEEDED.items():
        known = {column.name for column in SCHEMA[table]} | {"case"}
        assert set(names) <= known


def test_findings_by_how_common(studied, fleet):
    """Findings of single cases are counted once a case, the most common first."""
    rows = report.data(studied)["findings"]
    frame = pd.read_parquet(fleet / "findings").drop_duplicates(["case", "rule"])
    counts = frame["rule"].value_counts()
    assert {row["rule"]: row["cases"] for row in rows} == counts.to_dict()
    assert [row["cases"] for row in rows] == sorted(counts, reverse=True)


@pytest.mark.parametrize("form", ["text", "json", "html"])
def test_command(fleet, capsys, form):
    """Each format states both causes, with the numbers of cases."""
    assert main(["population", str(fleet), "--format", form]) == 0
    out = capsys.readouterr().out
    assert f"version of {population.FILTER} {population.VERSIONS[1]:08X}10000" in out
    assert f"disk {population.DISKS[-1]} bytes" in out
    if form == "json":
        said = json.loads(out)
        assert said["cases"] == 300
        assert sum(said["outcomes"].values()) == 300


@pytest.mark.slow
def test_notebook_of_a_population(fleet, tmp_path, capsys):
    """The notebook of the user's own folder runs to its end and shows both planted causes."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    path = tmp_path / "fleet's.ipynb"
    assert main(["population", str(fleet), "--format", "ipynb", "--output", str(path)]) == 0
    made = nbformat.read(path, as_version=4)
    nbformat.validate(made)
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(made, timeout=120, resources=place).execute()
    outputs = [out for cell in made.cells if cell.cell_type == "code" for out in cell.outputs]
    assert [out for out in outputs if out.get("name") == "stderr"] == []
    said = "".join(out.text for out in outputs if out.output_type == "stream")
    assert main(["population", str(fleet)]) == 0
    assert said == capsys.readouterr().out  # what the text report says
    images = [out.data["image/png"] for out in outputs if "image/png" in out.get("data", {})]
    assert len(images) == 2  # one a planted cause
    assert all(len(image) > 12_000 for image in images)  # an empty figure has 4 to 8 KB


def test_figure_shows_the_cases_of_the_difference(studied):
    """The two sides of a figure hold the cases that the sentence counts, with their medians."""
    for found in studied.differences:
        inside, others = studied.sides(found)
        assert (len(inside), len(others)) == (found.cases, found.others)
        assert inside.median() == pytest.approx(found.inside)
        labels = [t.get_text() for t in notebook.figure(studied, found).axes[0].get_yticklabels()]
        assert f"{found.cases} cases" in labels[0]


def test_figure_of_shares_and_of_time():
    """Shares of failures are bars, a change over time sets the cases before and after apart."""
    table = made(6)
    bad = (table._traits["disk"][0] == "v3").to_numpy(bool)
    table._measures[FAILED][0][bad] = 1.0
    when = table._times[0]
    later = (when > 5 * 10**17).to_numpy()
    table._measures[SPEED][0][later] *= 0.5
    done = study.Study(table)
    found = {row.trait: row for row in done.differences}
    bars = notebook.figure(done, found["disk"]).axes[0].patches
    assert round(bars[0].get_width()) == 100
    inside, others = done.sides(found["time"])
    assert (len(inside), len(others)) == (found["time"].cases, found["time"].others)


def test_frame_has_a_row_a_case(studied):
    """Measures and traits stand side by side, a row a case."""
    frame = studied.frame()
    assert frame.index.is_unique
    assert frame[f"{START.name} {START.subject}"].count() == len(studied.measures[START])
    assert {"disk", f"version of {population.FILTER}", "time"} <= set(frame.columns)


def test_html_escapes(studied):
    """A name from a file is never markup."""
    studied.table.rules[("<script>x", "error")] = 1
    page = "".join(report.html(studied))
    del studied.table.rules[("<script>x", "error")]
    assert "&lt;script&gt;x" in page
    assert "<script" not in page


def test_labels(fleet, tmp_path, capsys):
    """Traits from an inventory are compared like those of the dumps."""
    rows = pd.read_parquet(fleet / "locations")
    calls = pd.read_parquet(fleet / "callbacks", columns=["case", "duration_ns"]).dropna()
    slow = set(calls[calls["duration_ns"] > 3e6]["case"])
    rows["site"] = ["north" if case in slow else "south" for case in rows["case"]]
    rows[["location", "site"]].to_csv(tmp_path / "sites.csv", index=False)
    command = [
        "population",
        str(fleet),
        "--labels",
        str(tmp_path / "sites.csv"),
        "--format",
        "json",
    ]
    assert main(command) == 0
    rows = json.loads(capsys.readouterr().out)["distributions"]
    sites = {r["value"]: r["cases"] for r in rows if r["trait"] == "site" and r["subject"]
             and r["measure"] == "duration of Dump_Start"}  # fmt: skip
    assert sites["north"] == len(slow)
    (tmp_path / "sites.csv").write_text("a,b\n1,2\n")
    assert main(command) == 2
    assert "need a column" in capsys.readouterr().err


def test_population_of_no_data_set(tmp_path, capsys):
    """A folder that is no data set is named."""
    assert main(["population", str(tmp_path)]) == 2
    assert "this is no data set" in capsys.readouterr().err


# ---------------------------------------------------------------- one case and the fleet


@pytest.fixture
def normal(fleet, tmp_path):
    """The saved baseline."""
    path = tmp_path / "normal.json"
    assert main(["baseline", str(fleet), "--output", str(path)]) == 0
    return path


def ticket(tmp_path, name, version, start_ms, rate):
    """A case with a capture and a dump log."""
    made = population.Population(3)
    files = {
        "capture.jsonl": population.capture(
            made.chance, population.DISKS[0], version, 200, start_ms * 1e6
        ),
        "DumpStack.log": population.log(made.lines(rate, 1), population.crash(200)),
    }
    path = tmp_path / name
    path.write_bytes(population.archive(files))
    return str(path)


def judged(path, normal, capsys):
    """Rules about the fleet, with their texts."""
    main(["analyze", path, "--baseline", str(normal), "--format", "json"])
    rows = json.loads(capsys.readouterr().out)["tables"]["findings"]
    return {row["rule"]: row["text"] for row in rows if row["rule"].startswith("fleet-")}


def test_usual_case(normal, tmp_path, capsys):
    """A case like the fleet's gets no finding about it."""
    path = ticket(tmp_path, "a.zip", population.VERSIONS[0], 2, 210)
    assert judged(path, normal, capsys) == {}


def test_slow_case(normal, tmp_path, capsys):
    """A Dump_Start of 80 ms and 2 MB/s stand out against 2 ms and 200 MB/s."""
    main(["analyze", ticket(tmp_path, "a.zip", population.VERSIONS[0], 80, 2),
          "--baseline", str(normal), "--format", "json"])  # fmt: skip
    rows = json.loads(capsys.readouterr().out)["tables"]["findings"]
    texts = [row["text"] for row in rows if row["rule"] == "fleet-slower"]
    assert len(texts) == 2
    assert any("Duration of Dump_Start in dump_x.sys is " in text for text in texts)
    assert any("Speed of writing memory is 1.9" in text or "memory is 2" in text for text in texts)


def test_unknown_version(normal, tmp_path, capsys):
    """A version that none of the fleet has is named."""
    said = judged(ticket(tmp_path, "a.zip", 0x11223344, 2, 210), normal, capsys)
    assert set(said) == {"fleet-unknown-version"}
    assert "1122334410000" in said["fleet-unknown-version"]


def test_small_baseline_judges_nothing(tmp_path, capsys, studied):
    """A baseline of few cases says that it cannot judge."""
    saved = baseline.of_study(studied)
    for row in saved["measures"]:
        row["cases"] = 19
    for known in saved["versions"].values():
        known.clear()
    (tmp_path / "n.json").write_text(json.dumps(saved))
    path = ticket(tmp_path, "a.zip", population.VERSIONS[0], 80, 2)
    assert set(judged(path, tmp_path / "n.json", capsys)) == {"fleet-too-few"}


@pytest.mark.parametrize(
    "change", [{"measures": 3}, {"versions": []}, {"dumpstart_baseline": 9}, {"measures": [{}]}]
)
def test_broken_baseline(normal, change):
    """A file that is no whole baseline is refused in one sentence."""
    normal.write_text(json.dumps({**json.loads(normal.read_text()), **change}))
    with pytest.raises(InputError):
        baseline.load(str(normal))


def test_capture_as_a_baseline_still_works(tmp_path):
    """A capture given as baseline goes to the captures, as before."""
    made = population.Population(4)
    for name, ms in (("good", 2), ("bad", 200)):
        data = population.capture(made.chance, population.DISKS[0], 1, 1, ms * 1e6)
        (tmp_path / name).write_bytes(data)
    assert not baseline.is_baseline(str(tmp_path / "good"))
    code = main(["analyze", str(tmp_path / "bad"), "--baseline", str(tmp_path / "good"),
                 "--output", str(tmp_path / "out.txt")])  # fmt: skip
    assert code == 1
    assert "A callback was slower than in the baseline" in (tmp_path / "out.txt").read_text()


@pytest.mark.slow
def test_unplanted_cases_give_nothing(tmp_path):
    """The same generator without causes: no finding."""
    population.write(tmp_path / "in", 200, planted=False)
    with ThreadPoolExecutor(1) as executor:
        scan.scan([str(tmp_path / "in")], str(tmp_path / "out"), jobs=1, executor=executor)
    done = study.Study(study.table_of(DataSet(str(tmp_path / "out")).read()))
    assert done.differences == []


def calls_of(statuses, driver):
    """The measures of one case per status, with one Dump_Start each."""
    frames = {table: pd.DataFrame(columns=names) for table, names in measures.NEEDED.items()}
    rows = [
        (f"c{n}", driver, "Dump_Start", "yes", None, None, status)
        for n, status in enumerate(statuses)
    ]
    frames["callbacks"] = pd.DataFrame(rows, columns=measures.NEEDED["callbacks"])
    return measures.measure(frames)


@pytest.mark.parametrize(
    ("driver", "status", "failed"),
    [
        ("dump_acmeflt.sys", 0xC0000001, 1.0),
        ("dump_acmeflt.sys", 0x00000103, 0.0),  # STATUS_PENDING: a success code
        ("dump_acmeflt.sys", 0x40000000, 0.0),  # informational
        ("dump_dcrypt.sys", 0xC0210001, 0.0),  # DiskCryptor has nothing to encrypt
    ],
)
def test_a_failure_is_what_crashdmp_takes_for_one(driver, status, failed):
    """Success codes other than 0, and statuses a filter returns on purpose, are no failures."""
    found = calls_of([status], driver)
    key = measures.Measure("failure of Dump_Start", driver, "yes", "more")
    assert found[key].tolist() == [failed]


def test_twenty_cases_do_not_make_a_failure_rare():
    """That none of 20 cases failed leaves room for one in seven: nothing is called rare."""
    saved = {
        "measures": [
            {"name": "failed dump", "subject": "", "unit": "yes", "worse": "more", "cases": 20,
             "share": 0.0}
        ],
        "versions": {},
    }  # fmt: skip
    made = records.Records()
    made.add(make(records.Crash, crash=1, tells="dump log", outcome="failed"))
    assert [a.rule for a in baseline.judge(made, saved, "x")] == ["fleet-too-few"]
    saved["measures"][0]["cases"] = 100
    assert [a.rule for a in baseline.judge(made, saved, "x")] == ["fleet-rare-failure"]


def test_too_few_cases_are_not_told_as_no_difference(tmp_path, capsys):
    """Nothing compared is not the same as nothing found."""
    for n in range(3):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{n}.log").write_bytes(build(kernel(first=1500 + n)))
    assert main(["scan", str(tmp_path / "in"), "--output", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    for form in ("text", "html"):
        main(["population", str(tmp_path / "out"), "--format", form])
        said = capsys.readouterr().out
        assert "Nothing could be compared" in said
        assert "No trait goes with" not in said


def test_control_characters_of_a_capture_reach_no_terminal_and_no_page(tmp_path, capsys):
    """A callback named with escape sequences: the terminal's title and colours stay as they are."""
    path = shared_sample("../faults/population-escape.jsonl")
    for number in range(4):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"c{number}.jsonl").write_bytes(path.read_bytes() + b"\n" * number)
    assert main(["scan", str(tmp_path / "in"), "--output", str(tmp_path / "out")]) == 0
    for format in ("text", "html", "json"):
        capsys.readouterr()
        main(["population", str(tmp_path / "out"), "--format", format])
        told = capsys.readouterr().out
        assert "OWNED" in told
        assert not any(ord(mark) < 32 and mark != "\n" for mark in told)
