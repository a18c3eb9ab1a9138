"""Writes events in each form of text that Windows' tools make, in three languages.

The shapes are those of real files (Event Viewer, wevtutil, Windows PowerShell 5.1, PowerShell 7);
``FORMS`` says of each what it keeps.
"""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, NamedTuple
from xml.sax.saxutils import escape


class Language(NamedTuple):
    """How a machine of one language writes."""

    levels: dict[int, str]
    header: tuple[str, ...]  #: of Event Viewer's list
    labels: tuple[str, ...]  #: of copied text: log, source, date, id, task, level, ...
    numbered: str
    date: str  #: strftime
    none: str
    failed: str


EN = Language(
    {1: "Critical", 2: "Error", 3: "Warning", 4: "Information"},
    ("Level", "Date and Time", "Source", "Event ID", "Task Category"),
    ("Log Name", "Source", "Date", "Event ID", "Task Category", "Level", "Keywords", "User",
     "Computer", "Description", "Event Xml"),
    "Event", "%m/%d/%Y %I:%M:%S %p", "None", "It failed",
)  # fmt: skip
DE = Language(
    {1: "Kritisch", 2: "Fehler", 3: "Warnung", 4: "Informationen"},
    ("Ebene", "Datum und Uhrzeit", "Quelle", "Ereignis-ID", "Aufgabenkategorie"),
    ("Protokollname", "Quelle", "Datum", "Ereignis-ID", "Aufgabenkategorie", "Ebene",
     "Schlüsselwörter", "Benutzer", "Computer", "Beschreibung", "Ereignis-XML"),
    "Ereignis", "%d.%m.%Y %H:%M:%S", "Keine", "Das ging nicht",
)  # fmt: skip
JA = Language(
    {1: "重大", 2: "エラー", 3: "警告", 4: "情報"},
    ("レベル", "日付と時刻", "ソース", "イベント ID", "タスクのカテゴリ"),
    ("ログの名前", "ソース", "日付", "イベント ID", "タスクのカテゴリ", "レベル", "キーワード",
     "ユーザー", "コンピューター", "説明", "イベント XML"),
    "イベント", "%Y/%m/%d %H:%M:%S", "なし", "失敗しました",
)  # fmt: skip
CONSOLE = 40  #: letters that a table has room for
LANGUAGES = {"en": EN, "de": DE, "ja": JA}


class Written(NamedTuple):
    """One event that is written."""

    provider: str
    guid: str
    event_id: int
    level: int
    time: datetime  #: UTC
    message: str
    data: tuple[tuple[str, str], ...] = ()
    binary: bytes = b""

    @property
    def iso(self) -> str:
        """As SystemTime has it."""
        return f"{self.time:%Y-%m-%dT%H:%M:%S.%f}0Z"


def local(event: Written, language: Language) -> str:
    """The time on the wall of a machine two hours east of Greenwich."""
    return (event.time + timedelta(hours=2)).strftime(language.date)


def viewer(events: list[Written], language: Language, separator: str) -> str:
    """Event Viewer's "Save as": text with tabs, or CSV."""
    out = io.StringIO()
    rows = csv.writer(out, delimiter=separator)
    rows.writerow(language.header)
    for e in events:
        level = language.levels[e.level]
        when = local(e, language)
        rows.writerow([level, when, e.provider, e.event_id, language.none, e.message])
    return out.getvalue()


def xml_of(e: Written, rendered: str = "") -> str:
    """One event as XML."""
    about = f"Name='{e.provider}'" + (f" Guid='{{{e.guid}}}'" if e.guid else "")
    data = "".join(
        f"<Data Name='{name}'>{escape(text)}</Data>" if name else f"<Data>{escape(text)}</Data>"
        for name, text in e.data
    )
    data += f"<Binary>{e.binary.hex().upper()}</Binary>" if e.binary else ""
    return (
        "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System>"
        f"<Provider {about}/><EventID>{e.event_id}</EventID><Version>0</Version>"
        f"<Level>{e.level}</Level><TimeCreated SystemTime='{e.iso}'/><EventRecordID>7"
        "</EventRecordID><Channel>System</Channel><Computer>HOST1</Computer></System>"
        f"<EventData>{data}</EventData>{rendered}</Event>"
    )


def xml(events: list[Written], _: Language, newline: str) -> str:
    """Event Viewer's "Save as" XML."""
    head = '<?xml version="1.0" encoding="utf-8" standalone="yes"?>'
    return head + newline + "<Events>" + newline.join(map(xml_of, events)) + "</Events>"


def rendered_xml(events: list[Written], language: Language, newline: str) -> str:
    """``wevtutil qe System /f:RenderedXml``: no root."""
    return newline.join(
        xml_of(
            e,
            f"<RenderingInfo Culture='x'><Message>{escape(e.message)}</Message><Level>"
            f"{language.levels[e.level]}</Level></RenderingInfo>",
        )
        for e in events
    )


def copied(events: list[Written], language: Language, newline: str, with_xml: bool = False) -> str:
    """Event Viewer's "Copy details as text"."""
    lines: list[str] = []
    for e in events:
        values = ("System", e.provider, local(e, language), str(e.event_id), language.none,
                  language.levels[e.level], "(2)", "N/A", "HOST1")  # fmt: skip
        lines += [f"{label + ':':<15}{value}" for label, value in zip(language.labels, values)]
        lines += [f"{language.labels[9]}:", e.message]
        if with_xml:
            lines += [f"{language.labels[10]}:", *xml_of(e).replace("><", ">\n<").split("\n")]
        lines.append("")
    return newline.join(lines)


def wevtutil(events: list[Written], language: Language, newline: str) -> str:
    """``wevtutil qe System /f:text``: the time is local, though it ends with Z."""
    lines: list[str] = []
    for number, e in enumerate(events):
        wall = f"{e.time + timedelta(hours=2):%Y-%m-%dT%H:%M:%S.%f}0Z"
        values = ("System", e.provider, wall, str(e.event_id), "N/A", language.levels[e.level],
                  "N/A", "Classic", "N/A", "N/A", "HOST1", "")  # fmt: skip
        labels = ("Log Name", "Source", "Date", "Event ID", "Task", "Level", "Opcode", "Keyword",
                  "User", "User Name", "Computer", "Description")  # fmt: skip
        if language is not EN:
            labels = tuple(language.labels[n] for n in (0, 1, 2, 3, 4, 5, 4, 6, 7, 7, 8, 9))
        lines.append(f"{language.numbered}[{number}]")
        lines += [f"  {label}: {value}" for label, value in zip(labels, values)]
        lines += [e.message, ""]
    return newline.join(lines)


def friendly(events: list[Written], _: Language, newline: str) -> str:
    """The friendly view of Event Viewer's details; its names are those of the XML."""
    lines: list[str] = []
    for e in events:
        lines += ["+ System ", "", "  - Provider ", "", f"   [ Name]  {e.provider} "]
        lines += [f"   [ Guid]  {{{e.guid}}} "] if e.guid else []
        lines += [" ", f"   EventID {e.event_id} ", " ", f"   Level {e.level} ", " ",
                  "  - TimeCreated ", "", f"   [ SystemTime]  {e.iso} ", " ",
                  "   EventRecordID 7 ", " ", "   Channel System ", "", "- EventData ",
                  ""]  # fmt: skip
        lines += [f"  {name} {text} " if name else f"  {text} " for name, text in e.data]
        lines += [f"  {e.binary.hex().upper()} "] if e.binary else []
        if e.binary:
            lines += ["", "-" * 80, "", "Binary data:", "", "In Words", "", "In Bytes", ""]
            for at in range(0, len(e.binary), 8):
                row = e.binary[at : at + 8]
                lines.append(f"{at:04X}: {row.hex(' ').upper()}   ........")
        lines += ["", ""]
    return newline.join(lines)


def table(events: list[Written], language: Language, newline: str) -> str:
    """``Get-WinEvent`` as it shows on the console; long messages are cut."""
    lines: list[str] = []
    provider = None
    for e in events:
        if e.provider != provider:
            provider = e.provider
            lines += ["", "", f"   ProviderName: {provider}", "",
                      f"{'TimeCreated':<31} {'Id':>3} {'LevelDisplayName':<16} Message",
                      f"{'-' * 11:<31} {'--':>3} {'-' * 16} -------"]  # fmt: skip
        message = e.message if len(e.message) <= CONSOLE else e.message[: CONSOLE - 3] + "..."
        level = language.levels[e.level]
        lines.append(f"{local(e, language):<31} {e.event_id:>3} {level:<16} {message}")
    return newline.join([*lines, ""])


def listed(events: list[Written], language: Language, newline: str) -> str:
    """``Get-WinEvent | Format-List``."""
    lines = [""]
    for e in events:
        words = e.message.split(" ")
        half = len(words) // 2 + 1
        lines += ["", f"TimeCreated  : {local(e, language)}", f"ProviderName : {e.provider}",
                  f"Id           : {e.event_id}",
                  f"LevelDisplayName : {language.levels[e.level]}",
                  f"Message      : {' '.join(words[:half])}"]  # fmt: skip
        lines += [" " * 15 + " ".join(words[half:])] if words[half:] else []
    return newline.join([*lines, "", ""])


def powershell_csv(events: list[Written], language: Language, separator: str) -> str:
    """``Get-WinEvent | Export-Csv``, which begins with the type in Windows PowerShell."""
    out = io.StringIO()
    out.write("#TYPE System.Diagnostics.Eventing.Reader.EventLogRecord\r\n")
    rows = csv.writer(out, delimiter=separator, quoting=csv.QUOTE_ALL)
    rows.writerow(["Message", "Id", "Version", "Level", "ProviderName", "ProviderId", "LogName",
                   "TimeCreated", "LevelDisplayName", "Properties"])  # fmt: skip
    for e in events:
        shown = (
            "System.Collections.Generic.List`1[System.Diagnostics.Eventing.Reader.EventProperty]"
        )
        rows.writerow([e.message, e.event_id, 0, e.level, e.provider, e.guid, "System",
                       local(e, language), language.levels[e.level], shown])  # fmt: skip
    return out.getvalue()


def _properties(e: Written) -> list[dict[str, Any]]:
    values: list[Any] = [text for _, text in e.data]
    return [{"Value": v} for v in values] + ([{"Value": list(e.binary)}] if e.binary else [])


def json_text(events: list[Written], language: Language, newline: str) -> str:
    """``Get-WinEvent | ConvertTo-Json``: with CR LF as Windows PowerShell, else PowerShell 7."""
    rows = []
    for e in events:
        ms = int(e.time.timestamp() * 1000)
        zone = timezone(timedelta(hours=2))
        when = f"/Date({ms})/" if newline == "\r\n" else e.time.astimezone(zone).isoformat()
        rows.append(
            {
                "Id": e.event_id, "Version": 0, "Level": e.level, "ProviderName": e.provider,
                "ProviderId": e.guid or None, "LogName": "System", "TimeCreated": when,
                "Properties": _properties(e), "Message": e.message,
                "LevelDisplayName": language.levels[e.level],
            }
        )  # fmt: skip
    text = json.dumps(rows, indent=4, ensure_ascii=False)
    return text.replace('"/Date(', '"\\/Date(').replace(')/"', ')\\/"').replace("\n", newline)


def clixml(events: list[Written], _: Language, newline: str) -> str:
    """``Get-WinEvent | Export-Clixml``."""
    import base64

    lines = ['<Objs Version="1.1.0.1" xmlns="http://schemas.microsoft.com/powershell/2004/04">']
    for number, e in enumerate(events):
        props = "".join(
            f'<Obj RefId="{number}{k}"><Props><S N="Value">{escape(text)}</S></Props></Obj>'
            for k, (_, text) in enumerate(e.data)
        )
        if e.binary:
            packed = base64.b64encode(e.binary).decode()
            props += f'<Obj RefId="b{number}"><Props><BA N="Value">{packed}</BA></Props></Obj>'
        zone = timezone(timedelta(hours=2))
        guid = f'<G N="ProviderId">{e.guid}</G>' if e.guid else '<Nil N="ProviderId" />'
        lines.append(
            f'<Obj RefId="{number}"><TN RefId="0"><T>EventLogRecord</T></TN><ToString>x</ToString>'
            f'<Props><I32 N="Id">{e.event_id}</I32><By N="Level">{e.level}</By>'
            f'<S N="ProviderName">{e.provider}</S>{guid}<S N="LogName">System</S>'
            f'<DT N="TimeCreated">{e.time.astimezone(zone).isoformat()}</DT>'
            f'<Obj N="Properties" RefId="p{number}"><LST>{props}</LST></Obj></Props>'
            f'<MS><S N="Message">{escape(e.message)}</S></MS></Obj>'
        )
    return newline.join([*lines, "</Objs>"])


class Form(NamedTuple):
    """How a form is written, and what it keeps."""

    write: Callable[[list[Written], Language, str], str]
    separators: tuple[str, str]
    has_zone: bool
    has_data: bool
    has_message: bool = True
    is_cut: bool = False  #: long messages lose their end
    encoding: str = "utf-8"


_LINES = ("\r\n", "\n")
FORMS: dict[str, Form] = {
    "viewer-text": Form(viewer, ("\t", ";"), False, False, encoding="utf-16"),
    "viewer-csv": Form(viewer, (",", ";"), False, False),
    "xml": Form(xml, _LINES, True, True, has_message=False),
    "rendered-xml": Form(rendered_xml, _LINES, True, True),
    "copied": Form(copied, _LINES, False, False, encoding="utf-8-sig"),
    "copied-xml": Form(
        lambda e, lang, nl: copied(e, lang, nl, True), _LINES, True, True, has_message=False
    ),
    "friendly": Form(friendly, _LINES, True, True, has_message=False),
    "wevtutil": Form(wevtutil, _LINES, False, False),
    "table": Form(table, _LINES, False, False, is_cut=True, encoding="utf-16"),
    "list": Form(listed, _LINES, False, False, encoding="utf-16"),
    "powershell-csv": Form(powershell_csv, (",", ";"), False, False),
    "json": Form(json_text, _LINES, True, True),
    "clixml": Form(clixml, _LINES, True, True, encoding="utf-16"),
}
