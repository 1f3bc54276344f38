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

from ..errors import SourceError, SuppleError
from .episode import Array
from .keyed import Column
from .source_files import require_budget

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
        reason = " ".join(str(error).split())[:160]
        raise SourceError(
            f"{path}: expected a whole Arrow or Parquet file, got one that cannot be read ({reason}); finish the "
            "recording (a file without its end was never closed), or copy it again"
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
    read_schema(path)
    with typed_errors(path):
        if path.suffix == ".parquet":
            return pq.ParquetFile(path, memory_map=True, page_checksum_verification=True).read(
                columns=list(columns), use_threads=False
            )
        with pa.memory_map(str(path)) as stream, pa.ipc.open_file(stream) as file:
            return file.read_all().select(list(columns))


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
