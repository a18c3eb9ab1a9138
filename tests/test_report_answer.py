"""The answer in plain sentences: it says what the records state and nothing more."""

from __future__ import annotations

from typing import Any

from conftest import make

from analyzer import records
from analyzer.absence import Absent
from analyzer.records import Origin, Records
from analyzer.reports.answer import by_severity, sentences


def call(**fields: Any) -> Any:
    """A Dump_Start of "a.sys" in the crash stack."""
    values = {"filter": "a.sys", "stack": "crash", "callback": "Dump_Start", **fields}
    return make(records.Callback, **values)


def answer(*rows: Any) -> str:
    """The whole answer for some records."""
    made = Records()
    made.add(*rows)
    return " ".join(sentences(made))


def test_answer_of_a_healthy_dump(handmade: Records) -> None:
    """The sentences say dump, filter, what is not determined and why, and the verdict."""
    assert sentences(handmade) == [
        "A triage dump of bugcheck 0xD1 (DRIVER_IRQL_NOT_LESS_OR_EQUAL) was written.",
        "One crash dump filter was in the dump stack: dump_filter.sys.",
        (
            "Dump_Start of dump_filter.sys: whether it was called, what it returned and how long "
            "it took are not determined (a dump holds no record of calls; a live capture would "
            "tell)."
        ),
        "The checks found no error and no warning in what was given.",
    ]


def test_nothing_known_is_said_to_be_not_determined() -> None:
    """Without any record the answer claims nothing."""
    said = answer()
    assert "Whether a dump was written is not determined: no kernel dump was given." in said
    assert "Which crash dump filters were loaded is not determined." in said
    assert "Whether Dump_Start was called, what it returned and how long it took" in said


def test_status_and_duration_of_a_call_are_told() -> None:
    """A call that was recorded is told with status, its name and a duration with a unit."""
    known = call(
        was_called="yes", status=0xC0000001, status_name="STATUS_UNSUCCESSFUL", duration_ns=1234567
    )
    assert (
        "Dump_Start of a.sys was called, returned STATUS_UNSUCCESSFUL (0xc0000001) and took "
        "1.235 ms." in answer(known)
    )


def test_a_zero_duration_is_a_duration() -> None:
    """Zero is a value, not an absence."""
    assert "took 0 ns" in answer(call(was_called="yes", status=0, duration_ns=0))


def test_an_interval_is_told_as_one() -> None:
    """Where only bounds are known, both are told."""
    bounded = call(was_called="yes", status=0, duration_low_ns=1000, duration_high_ns=2_000_000)
    assert "took between 1 us and 2 ms" in answer(bounded)
    from_nothing = call(was_called="yes", status=0, duration_low_ns=0, duration_high_ns=2_000_000)
    assert "took at most 2 ms" in answer(from_nothing)


def test_the_missing_part_of_a_call_has_its_reason() -> None:
    """What is known and what is not stand in one sentence."""
    why = Absent("not-recorded", "no clock was read")
    said = answer(call(was_called="yes", status=0, status_name="STATUS_SUCCESS", duration_ns=why))
    assert (
        "Dump_Start of a.sys was called and returned STATUS_SUCCESS (0x00000000); how long it took "
        "is not determined (no clock was read)." in said
    )


def test_a_filter_without_the_callback_is_no_unknown() -> None:
    """Callbacks are optional: a NULL routine is said to be none."""
    assert "Dump_Start of a.sys does not exist" in answer(call(routine=0))


def test_a_call_that_was_not_made() -> None:
    """The word no is an answer of its own."""
    assert "Dump_Start of a.sys was not called while it was watched." in answer(
        call(was_called="no", routine=1)
    )


def test_calls_of_the_hibernation_stack_are_not_of_the_crash() -> None:
    """Hibernation has its own copies of the filters."""
    said = answer(call(stack="hibernation", was_called="yes", status=0, duration_ns=5))
    assert "took 5 ns" not in said


def test_filters_with_the_same_outcome_share_a_sentence() -> None:
    """Ten filters of which nothing is known do not make ten sentences."""
    said = answer(*(call(filter=f"{name}.sys") for name in "abcdefg"))
    assert "Dump_Start of a.sys, b.sys, c.sys, d.sys, e.sys and 2 more: whether" in said


def test_disabled_filters_are_named() -> None:
    """A disabled filter is the first thing a reader asks for."""
    rows = [
        make(records.Filter, filter="a.sys", stack="crash", node=1, is_disabled=True, ring_count=2),
        make(records.Filter, filter="b.sys", stack="crash", node=2, is_disabled=False),
    ]
    said = answer(*rows)
    assert "2 crash dump filters were in the dump stack, in call order: a.sys and b.sys." in said
    assert "Disabled: a.sys." in said


def test_filter_modules_stand_in_for_the_list() -> None:
    """Where the ring is unknown, the module list is quoted as such."""
    module = make(records.Module, name="dump_x.sys", role="dump filter", stack="crash", loaded=True)
    assert (
        "By the loaded modules, dump_x.sys is taken for a crash dump filter; crashdmp's list of "
        "filters itself is not determined." in answer(module)
    )


def test_the_count_of_the_list_is_told_where_the_node_is_not() -> None:
    """A small dump can prove how many filters there were without holding their nodes."""
    only = make(records.Filter, filter="dump_x.sys", stack="crash", ring_count=1)
    said = answer(only)
    assert "dump_x.sys is taken for a crash dump filter; crashdmp's list holds 1 filter." in said


def test_a_count_that_differs_from_the_nodes_is_told() -> None:
    """One node found of a list of two is not the whole list."""
    only = make(records.Filter, filter="dump_x.sys", stack="crash", node=1, ring_count=2)
    assert "One crash dump filter was in the dump stack: dump_x.sys; crashdmp's list holds 2." in (
        answer(only)
    )


def test_likely_evidence_is_not_told_as_certain() -> None:
    """The confidence of the record and of the call reach the sentence."""
    origin = Origin("x.dmp", "content match", "likely")
    said = answer(call(was_called="yes", status=0, duration_ns=1, origin=origin))
    assert "Likely, not proven: Dump_Start of a.sys was called" in said
    assert "Dump_Start of a.sys was likely called;" in answer(call(was_called="likely"))


def test_no_filter_is_claimed_only_of_a_whole_module_list() -> None:
    """A broken module list does not prove that there is no filter."""
    module = make(records.Module, name="nt", role="kernel", loaded=True)
    broken = make(records.Finding, rule="modules-incomplete", severity="warning", text="Cut.")
    assert "None of the 1 loaded modules is a crash dump filter." in answer(module)
    assert "Which crash dump filters were loaded is not determined." in answer(module, broken)


def test_a_cut_dump_is_not_said_to_be_whole(handmade: Records) -> None:
    """A finding on the file changes the sentence about the dump."""
    handmade.add(make(records.Finding, rule="dump-file-cut", severity="error", text="It ends."))
    said = " ".join(sentences(handmade))
    assert "but the file is cut short; whether it was ever written to its end is not" in said
    assert "The checks found 1 error; the first: It ends." in said


def test_a_finding_of_another_file_does_not_change_this_one(handmade: Records) -> None:
    """Two files of a case are judged apart."""
    other = Origin("other.dmp", "header field")
    handmade.add(
        make(records.Finding, rule="dump-file-cut", severity="error", text="x", origin=other)
    )
    assert sentences(handmade)[0].endswith("was written.")


def test_a_live_dump_is_no_crash(handmade: Records) -> None:
    """A live dump is not said to come from a crash."""
    handmade.add(make(records.Finding, rule="not-a-crash", severity="info", text="Live."))
    assert "taken without a crash" in sentences(handmade)[0]


def test_findings_are_ordered_by_severity() -> None:
    """Errors come first, and equals keep their order."""
    found = [make(records.Finding, severity=s) for s in ("info", "error", "warning", "error")]
    assert by_severity(found) == [found[1], found[3], found[2], found[0]]


def test_an_upper_bound_of_all_calls_is_told() -> None:
    """DumpStack.log has no line of a filter, but its first time bounds them all."""
    text = "All Dump_Start calls together took at most 1531 ms"
    said = answer(make(records.Stage, stage="dump-start-upper-bound", text=text))
    assert "how long it took is not determined" in said
    assert f"{text}." in said


def test_each_of_several_dumps_has_its_own_story(handmade: Records) -> None:
    """Facts of two crashes are never mixed in one sentence; the rest comes last."""
    other, log = Origin("/cases/other.dmp", "header field"), Origin("DumpStack.log", "log line")
    for table in ("sources", "machine", "filters"):
        handmade[table].append(handmade[table][0]._replace(origin=other))
    handmade["sources"][1] = handmade["sources"][1]._replace(path="/cases/other.dmp")
    handmade["machine"][1] = handmade["machine"][1]._replace(bugcheck=0x7E, bugcheck_name=None)
    handmade["filters"][1] = handmade["filters"][1]._replace(filter="other.sys")
    handmade.add(
        make(records.Source, path="DumpStack.log", kind="dumpstack.log", origin=log),
        make(records.Stage, text="Dump completed successfully.", origin=log),
    )
    said = sentences(handmade)
    assert said[0].startswith("machine.dmp: A triage dump of bugcheck 0xD1 ")
    assert said[1] == "One crash dump filter was in the dump stack: dump_filter.sys."
    assert said[3] == "other.dmp: A triage dump of bugcheck 0x7E was written."
    assert said[4] == "One crash dump filter was in the dump stack: other.sys."
    assert said[6].startswith("DumpStack.log: The last step that the dump log tells is: Dump comp")
    assert said[-1] == "The checks found no error and no warning in what was given."


def test_a_hundred_dumps_do_not_make_a_hundred_stories() -> None:
    """The first three are told, the others counted."""
    made = Records()
    for number in range(100):
        path = f"{number}.dmp"
        origin = Origin(path, "header field")
        made.add(make(records.Source, path=path, kind="kernel dump", origin=origin))
        made.add(make(records.Machine, bugcheck=number, origin=origin))
    said = sentences(made)
    assert sum(" was written." in sentence for sentence in said) == 3
    assert "97 more dumps were given." in said


NOT_OF_A_DUMP = Absent("not-applicable", "this is not a step of writing a dump")


def test_steps_of_a_trace_are_not_told_as_steps_of_the_dump_log() -> None:
    """Loading the dump stack at start-up says nothing of a dump, and comes from the trace."""
    trace = Origin("boot.etl", "event header")
    said = answer(
        make(records.Source, path="boot.etl", kind="etl", origin=trace),
        make(records.Stage, stage="crash-dump-initialize", text="loading the crash dump stack",
             elapsed_ms=NOT_OF_A_DUMP, duration_ms=12, status=0xC0000034,
             status_name="STATUS_OBJECT_NAME_NOT_FOUND", origin=trace),
        make(records.Stage, stage="create-dump-file", text="creating the dump file",
             elapsed_ms=NOT_OF_A_DUMP, duration_ms=Absent("not-found"), origin=trace),
    )  # fmt: skip
    assert said.startswith(
        "Whether a dump was written is not determined: no kernel dump was given. By the events of "
        "a trace, loading the crash dump stack took 12 ms and ended with "
        "STATUS_OBJECT_NAME_NOT_FOUND (0xc0000034). "
        "The events of a trace tell of creating the dump "
        "file, but not how long it took or how it ended. "
    )
    assert "log" not in said


def test_the_last_step_of_a_dump_log_stays_the_last_beside_a_trace() -> None:
    """A trace's step behind those of the log does not become the last step of the dump."""
    log, trace = Origin("DumpStack.log", "line"), Origin("boot.etl", "event header")
    said = answer(
        make(records.Stage, text="Dump write started.", elapsed_ms=5, origin=log),
        make(records.Stage, text="creating the dump file", elapsed_ms=NOT_OF_A_DUMP,
             duration_ms=0, origin=trace),
    )  # fmt: skip
    assert said.startswith(
        "The last step that the dump log tells is: Dump write started. By the events of a trace, "
        "creating the dump file took less than 1 ms."
    )
