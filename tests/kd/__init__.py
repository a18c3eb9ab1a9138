"""A simulated Windows machine that a kernel debugger can attach to.

Real machine code (compiled from ``guest/``) in a real processor model (Unicorn) behind the KD
serial protocol. Time is scripted, so tests can demand exact durations.
"""
