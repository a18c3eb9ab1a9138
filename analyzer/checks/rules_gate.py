"""Rules about what a pipeline expects (``--expect``) and already knows (``--known``)."""

from __future__ import annotations

from .rule import Rule, table

FAILED, MET, UNUSED = "expectation-failed", "expectation-met", "known-finding-unused"

RULES = table(
    [
        Rule(
            FAILED,
            "error",
            "An expectation is refuted, or nothing shows that it is met",
            "--expect asked for it. The finding says which of the two it is, and by what.",
            "A pipeline asks for it on purpose: what is not shown to have worked may not work when "
            "a machine crashes in earnest.",
            "Where it is refuted, see the other findings about the same filter or dump. Where "
            "nothing shows it, collect the source that would: docs/what-tells-what.md.",
        ),
        Rule(
            MET,
            "info",
            "An expectation is met",
            "--expect asked for it, and the evidence shows it.",
            "It is listed so that a reader sees what was asked for.",
            "Nothing.",
        ),
        Rule(
            UNUSED,
            "info",
            "A known finding was not seen",
            "The file of --known has an entry that fits no finding of this case.",
            "An entry that is not needed any more would hide the fault when it comes back.",
            "Remove the entry once the fault is mended.",
        ),
    ]
)
