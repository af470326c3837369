"""Lists as a whole: copies, accounts, verification."""

from libc.stdint cimport uint64_t

from dfly._core.store.block_list cimport block_list_t

cdef block_list_t list_dup(block_list_t self) noexcept nogil
cdef uint64_t list_block_count(block_list_t self) noexcept nogil
cdef size_t list_heap_bytes(block_list_t self) noexcept nogil        # real bytes of all it owns
cdef size_t list_data_bytes(block_list_t self) noexcept nogil        # of the elements as they are stored
cdef bint list_check(block_list_t self) noexcept nogil               # for tests; aborts on a broken invariant
