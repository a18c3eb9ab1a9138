"""The real debugger engine under Wine: provisioning, sessions and the scripts that run in it."""
