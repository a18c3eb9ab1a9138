"""Work counted in calls of Python functions: a busy machine changes nothing of it."""

from __future__ import annotations

import sys
from typing import Any, Callable


def calls(run: Callable[[], Any]) -> int:
    """Calls and steps of comprehensions while this runs."""
    count = 0

    def step(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(step)
    try:
        run()
    finally:
        sys.setprofile(None)
    return count
