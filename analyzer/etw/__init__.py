"""Event Tracing for Windows: bytes of a trace in, columns of events out, without Windows.

Invariant: importing this package or any module in it never imports numpy or pandas before a
trace is opened; every module names the bytes it could not use.
"""
