"""Many cases: scanned into a data set of Parquet files, compared, and what is normal kept.

Invariant: what is said of a population follows from the tables of its single cases alone; this
package reads no input of its own. Needs the extra ``parquet`` (pyarrow).
"""

from __future__ import annotations

from typing import Any

from ..errors import UsageError
from ..extras import install


def need(module: str, extra: str) -> Any:
    """An optional package, or one sentence that says how to get it."""
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError:
        name = module.partition(".")[0]
        raise UsageError(f"this needs {name}: {install(extra)}") from None
