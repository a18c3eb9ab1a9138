"""Live work: a debugger's target, the capture of callbacks, and the commands inside WinDbg.

Invariant: whatever goes wrong, the target is never left standing; the half that runs in a debugger
uses the standard library and pykd alone.
"""
