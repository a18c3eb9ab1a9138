"""Dry run: calls a filter's callbacks on a copy of a target's memory and tells what they do.

Invariant: the target is only read. The code runs in an emulator in a process of its own, which has
no other way out than a pipe for pages; this half is the standard library alone, so it works inside
a debugger, too. Importing the package imports nothing of it. What is proven: docs/dryrun.md.
"""
