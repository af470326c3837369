"""Test door of file requests: what a fiber does with a file, as functions for LoopThread's fibers."""

import os

from libc.stdint cimport int64_t
from libc.string cimport memcpy

from dfly._core.loop.file cimport (
    FILE_FSYNC, FILE_OPEN, FILE_READ, FILE_RENAME, FILE_UNLINK, FILE_WRITE, file_close, file_fsync,
    file_inject_fault, file_open, file_perform, file_read, file_rename, file_request_t, file_unlink,
    file_write,
)
from dfly._core.sys.alloc cimport net_alloc, net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP

OPERATIONS = {"open": FILE_OPEN, "read": FILE_READ, "write": FILE_WRITE, "fsync": FILE_FSYNC,
              "rename": FILE_RENAME, "unlink": FILE_UNLINK}


def inject(str operation, int error, int64_t skip=0):
    """The next `skip` requests succeed, all later ones fail with the errno; 0 ends it."""
    file_inject_fault(OPERATIONS[operation], error, skip)


cdef int64_t outcome(file_request_t *request) except? -1:
    file_perform(request)
    if request.result < 0:
        raise OSError(-request.result, os.strerror(-request.result))
    return request.result


def write_file(bytes path, list chunks, bytes final_path):
    """Opens, writes, fsyncs, closes, renames; on a fiber. OSError where one of them fails."""
    cdef file_request_t *request = <file_request_t *>net_zalloc(sizeof(file_request_t))
    cdef bytes chunk
    cdef char *copy
    offset = 0
    try:
        file_open(request, path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        fd = outcome(request)
        try:
            for chunk in chunks:
                copy = <char *>net_alloc(len(chunk) + 1)
                memcpy(copy, <const char *>chunk, len(chunk))
                try:
                    file_write(request, fd, copy, len(chunk), offset)
                    offset += outcome(request)
                finally:
                    net_free(copy)
            file_fsync(request, fd)
            outcome(request)
        finally:
            file_close(request, fd)
            outcome(request)
        file_rename(request, path, final_path)
        outcome(request)
    finally:
        net_free(request)
    return offset


def read_file(bytes path, size_t size, int64_t offset):
    """Up to `size` bytes from `offset`; on a fiber."""
    cdef file_request_t *request = <file_request_t *>net_zalloc(sizeof(file_request_t))
    cdef char *data = <char *>net_alloc(size + 1)
    try:
        file_open(request, path, os.O_RDONLY | os.O_CLOEXEC, 0)
        fd = outcome(request)
        file_read(request, fd, data, size, offset)
        try:
            return data[:outcome(request)]
        finally:
            file_close(request, fd)
            outcome(request)
    finally:
        net_free(data)
        net_free(request)


def remove_file(bytes path):
    cdef file_request_t *request = <file_request_t *>net_zalloc(sizeof(file_request_t))
    try:
        file_unlink(request, path)
        outcome(request)
    finally:
        net_free(request)
