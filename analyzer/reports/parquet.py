"""One table as a Parquet file; needs the extra ``parquet`` (pyarrow).

Invariant: the column types are those of the DataFrame: addresses stay unsigned 64-bit, absent
values are null, times are UTC with nanoseconds. The file says which table it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import __version__, outputs
from ..batches import Column, batches, grouped, reasons_of, text_reason, told
from ..errors import UsageError
from ..extras import install
from ..tables import SCHEMA, frame_of

if TYPE_CHECKING:
    import pyarrow as pa

    from ..records.collection import Rows

#: rows that are compressed together
_GROUP = 1 << 16


def write(table: str, rows: Rows, path: str) -> None:
    """Writes the rows of a table to a file."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError(f"Parquet needs pyarrow: {install('parquet')}") from None
    about = {"dumpstart": __version__, "table": table}
    with outputs.replacing(path) as name:
        empty = pa.Table.from_pandas(frame_of(table, []), preserve_index=False)
        schema = empty.schema.with_metadata({**(empty.schema.metadata or {}), **about})
        with pq.ParquetWriter(name, schema, compression="zstd") as writer:
            parts = (_table(table, cells, schema) for cells in batches(table, rows))
            for some in grouped(parts, _GROUP):
                writer.write_table(pa.concat_tables(some))


def _table(table: str, cells: list[Column], schema: pa.Schema) -> pa.Table:
    """Some rows as an Arrow table."""
    import pyarrow as pa

    columns: list[Sequence[object]] = [
        told(kind, column) for (_, kind), column in zip(SCHEMA[table], cells)
    ]
    columns.append([words or None for words in reasons_of(table, cells, text_reason, "; ")])
    arrays = [pa.array(column, of.type) for column, of in zip(columns, schema)]
    return pa.Table.from_arrays(arrays, schema=schema)
