"""Snapshot files for Python: what a file begins with, and (check, convert) all of it."""

from libc.string cimport memset

from dfly._core.persist.rdb_file cimport (RDB_NEXT_AUX, RDB_NEXT_ERROR, rdb_file_close, rdb_file_next, rdb_file_open,
                                          rdb_file_t, rdb_next_t, rdb_record_t)
from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP


def read_head(path):
    """The auxiliary fields that the file begins with: [(name, value)]. ValueError says what is wrong."""
    cdef rdb_file_t file
    cdef rdb_record_t record
    cdef rdb_next_t kind
    cdef bytes encoded = path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path
    fields = []
    try:
        if rdb_file_open(&file, encoded, True):
            while True:
                kind = rdb_file_next(&file, &record)
                if kind != RDB_NEXT_AUX:
                    break
                fields.append((file.first.data[:file.first.size], file.second.data[:file.second.size]))
        if file.reason[0] != 0:
            raise ValueError(f"at byte {file.error_offset}: {file.reason.decode('utf-8', 'replace')}")
    finally:
        rdb_file_close(&file)
    return fields
