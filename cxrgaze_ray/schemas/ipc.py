"""A table as one value, between processes."""

from __future__ import annotations

import pyarrow as pa


def table_to_ipc(table: pa.Table) -> pa.Buffer:
    """Return a table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def table_from_ipc(buffer: pa.Buffer) -> pa.Table:
    """Read a table back from an Arrow IPC stream."""
    return pa.ipc.open_stream(buffer).read_all()
