"""The crash dump stack in memory: module roles, crashdmp's contexts, the ring of filter nodes.

Invariant: everything here runs on :class:`analyzer.target.Target` with the standard library alone,
so a dump, a live session and a replay share it.
"""
