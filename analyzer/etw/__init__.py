"""Event Tracing for Windows: bytes of a trace in, columns of events out, without Windows.

Invariant: no byte is lost without a word (:class:`analyzer.etw.buffers.Account`), and importing
this package imports neither numpy nor pandas. The modules, from the bytes up: layouts, compression,
buffers, walk, index, clock, session; payload, tracelogging, schemas, manifests, mof, wpp,
providers, decode; trace, events, fields; dumpblock, memory, export; callbacks, findings.
"""
