"""Arrow and Parquet files as columns of numbers: structs are flattened, lists of one length become vectors.

Legend: N rows, dim number of axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from ..errors import SourceError, SuppleError, describe_error
from .episode import Array
from .keyed import Column
from .source_files import require_budget

_BATCH_ROWS = 16_384
_BUFFER_BYTES = 2**20
_VALUE_BYTES = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4}
"""Of one value in memory, by its type in the file, where it is not 8."""
_DAMAGE = (pa.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError, MemoryError, IndexError)
"""What pyarrow raises on damaged files; caught only around calls into it."""


@contextmanager
def typed_errors(path: Path) -> Iterator[None]:
    """Turns what pyarrow raises within the block into one line.

    Raises:
        SourceError: the file is missing, unfinished or damaged.
    """
    try:
        yield
    except SuppleError:
        raise
    except _DAMAGE as error:
        raise SourceError(
            f"{path}: expected a whole Arrow or Parquet file, got one that cannot be read ({describe_error(error)}); "
            "finish the recording (a file without its end was never closed), or copy it again"
        ) from error


def read_columns(path: Path, index_prefix: str = "") -> tuple[dict[str, Column], int]:
    """Columns and number of rows of a file; structs are flattened as `outer/inner`, fields `0`, `1` get the prefix.

    Raises:
        SourceError: it is damaged, or declares far more bytes than it has.
    """
    schema, rows = read_schema(path)
    with typed_errors(path):
        return _describe_columns(schema, index_prefix), rows


def read_schema(path: Path) -> tuple[pa.Schema, int]:
    """Schema and number of rows of a Parquet file, or of an Arrow file, without its columns.

    Raises:
        SourceError: it is damaged, or declares far more bytes than it has.
    """
    with typed_errors(path):
        if path.suffix != ".parquet":
            with pa.memory_map(str(path)) as stream, pa.ipc.open_file(stream) as file:
                return file.schema, int(file.count_rows())
        file = pq.ParquetFile(path, memory_map=True)
        found = file.metadata
        groups = [found.row_group(number) for number in range(found.num_row_groups)]
        require_budget(sum(group.total_byte_size for group in groups), path.stat().st_size, path)
        return file.schema_arrow, int(found.num_rows)


def read_table(path: Path, columns: Sequence[str]) -> pa.Table:
    """Top-level columns of a file; raises as `read_schema`."""
    schema, rows = read_schema(path)
    with typed_errors(path):
        if path.suffix == ".parquet":
            return _open_parquet(path, columns).read(columns=list(columns), use_threads=False)
        found = _describe_columns(pa.schema([schema.field(name) for name in columns]), "")
        row_bytes = sum(abs(column.width) * column.dtype.itemsize for column in found.values())
        require_budget(rows * row_bytes, path.stat().st_size, f"{path}: {', '.join(columns)[:200]}")
        with pa.memory_map(str(path)) as stream, pa.ipc.open_file(stream) as file:
            return file.read_all().select(list(columns))


def _open_parquet(path: Path, columns: Sequence[str]) -> pq.ParquetFile:
    """A file of which some columns are read piece by piece; by itself the library reads groups of rows ahead.

    Raises:
        SourceError: these hold far more numbers than the file has bytes: a run of equal ones takes no space in it.
    """
    file = pq.ParquetFile(path, page_checksum_verification=True, buffer_size=_BUFFER_BYTES, pre_buffer=False)
    found, prefixes = file.metadata, tuple(f"{name}." for name in columns)
    leaves = [index for index in range(found.num_columns) if f"{file.schema.column(index).path}.".startswith(prefixes)]
    size = 0
    for number in range(found.num_row_groups):
        # asked for a damaged column, the metadata end the process; a reader says so
        next(file.iter_batches(1, row_groups=[number], columns=list(columns), use_threads=False), None)
        for column in map(found.row_group(number).column, leaves):
            size += column.num_values * _VALUE_BYTES.get(column.physical_type, 8)
    require_budget(size, path.stat().st_size, f"{path}: {', '.join(columns)[:200]}")
    return file


class RowStream:
    """Rows of some top-level columns of a Parquet file, in blocks: who goes forward never has a large file as a whole.

    Args:
        path: The file.
        columns: Names.
        rows: Of a block.

    Raises:
        SourceError: as `read_schema`.
    """

    def __init__(self, path: Path, columns: Sequence[str], rows: int = _BATCH_ROWS) -> None:
        self._path, self._columns = path, columns
        self._whole: pa.Table | None = None
        read_schema(path)
        with typed_errors(path):
            file = _open_parquet(path, columns)
            self._schema = pa.schema([file.schema_arrow.field(name) for name in columns])
            self._batches = file.iter_batches(rows, columns=list(columns), use_threads=False)
        self._held: list[pa.RecordBatch] = []
        self._row = self._end = 0

    def take(self, begin: int, end: int) -> pa.Table:
        """Rows [begin, end); the first step back loads the whole file. Raises as the class."""
        if begin < self._row and self._whole is None:
            self._whole = read_table(self._path, self._columns)
        if self._whole is not None:
            return self._whole.slice(begin, end - begin)
        with typed_errors(self._path):
            while True:
                while self._held and self._row + self._held[0].num_rows <= begin:
                    self._row += self._held.pop(0).num_rows
                batch = next(self._batches, None) if self._end < end else None
                if batch is None:
                    return pa.Table.from_batches(self._held, self._schema).slice(begin - self._row, end - begin)
                self._held.append(batch)
                self._end += batch.num_rows


def _describe_columns(schema: pa.Schema, index_prefix: str) -> dict[str, Column]:
    found: dict[str, Column] = {}
    pending = [(field.name, field.type) for field in reversed(list(schema))]
    while pending:
        name, kind = pending.pop()
        if pa.types.is_struct(kind):
            fields = [kind.field(number) for number in range(kind.num_fields)]
            pending += [(f"{name}/{_label(field.name, index_prefix)}", field.type) for field in reversed(fields)]
        else:
            found[name] = _describe(kind)
    return found


def take_column(table: pa.Table, name: str, column: Column, where: object, index_prefix: str = "") -> Array:
    """The values of a column, shape (N,) or (N, dim).

    Raises:
        SourceError: nulls, or lists of several lengths.
    """
    outer, *inner = name.split("/")
    with typed_errors(Path(str(where))):
        array = table[outer].combine_chunks()
        if isinstance(array, pa.ChunkedArray):
            array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
        for part in inner:
            _require_full(array, where, name)
            labels = {
                _label(array.type.field(number).name, index_prefix): number for number in range(array.type.num_fields)
            }
            array = array.field(labels[part])
        _require_full(array, where, name)
        rows = len(array)
        while isinstance(array.type, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
            if not isinstance(array.type, pa.FixedSizeListType):
                lengths = np.diff(array.offsets.to_numpy())
                if len(lengths) and (lengths != column.shape[0]).any():
                    row = int(np.flatnonzero(lengths != column.shape[0])[0])
                    raise SourceError(
                        f"{where}: {name}: expected {column.shape[0]} numbers in every row, got {lengths[row]} in row "
                        f"{row}; write the file again"
                    )
            array = array.flatten()
            _require_full(array, where, name)
        values = array.to_numpy(zero_copy_only=False)
        return np.asarray(values).reshape(rows, *column.shape)


def _label(name: str, prefix: str) -> str:
    return f"{prefix}{name}" if prefix and name.isdecimal() else name


def _require_full(array: Any, where: object, name: str) -> None:
    if array.null_count:
        row = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
        raise SourceError(f"{where}: {name}: expected a value in every row, got none in row {row}; fill or remove it")


def _describe(kind: Any) -> Column:
    shape: tuple[int, ...] = ()
    flaw = ""
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        # the length of a list that has none in the schema is in the data; -1 until somebody looks
        shape += (kind.list_size if pa.types.is_fixed_size_list(kind) else -1,)
        kind = kind.value_type
    try:
        dtype = np.dtype(kind.to_pandas_dtype())
    except (NotImplementedError, TypeError):
        dtype = np.dtype(object)
    if dtype.kind not in "fiub":
        dtype, flaw = np.dtype(object), f"holds {kind}, not numbers"
    return Column(dtype=dtype, shape=shape, flaw=flaw)
