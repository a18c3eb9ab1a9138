"""One table as a Parquet file; needs the extra ``parquet`` (pyarrow).

Invariant: the column types are those of the DataFrame: addresses stay unsigned 64-bit, absent
values are null, times are UTC with nanoseconds. The file says which table it holds.
"""

from __future__ import annotations

from typing import Any

from .. import __version__, outputs
from ..errors import UsageError
from ..tables import frame


def write(table: str, rows: Any, path: str) -> None:
    """Writes the rows of a table to a file."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError("Parquet needs pyarrow: pip install 'dumpstart[parquet]'") from None
    made = pa.Table.from_pandas(frame(table, rows), preserve_index=False)
    about = {"dumpstart": __version__, "table": table}
    made = made.replace_schema_metadata({**(made.schema.metadata or {}), **about})
    with outputs.replacing(path) as name:
        pq.write_table(made, name, compression="zstd")
