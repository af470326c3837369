"""Implementation of listeners to keys of a form: a list, see pattern_listeners.pxd."""

from libc.stdint cimport uint32_t
from libc.string cimport memcmp

from dfly._core.store.object cimport key_t
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_DCHECK, atomic_store, dfly_on_thread_stack

__abi__ = DFLY_ABI_STAMP


cdef void pattern_listener_add(pattern_table_t *self, pattern_listener_t *listener) noexcept nogil:
    DFLY_DCHECK(not dfly_on_thread_stack(listener), "a listener must not lie on a stack")
    listener.previous = NULL
    listener.next = self.first
    if self.first != NULL:
        self.first.previous = listener
    self.first = listener
    self.count += 1


cdef void pattern_listener_remove(pattern_table_t *self, pattern_listener_t *listener) noexcept nogil:
    if listener.previous != NULL:
        listener.previous.next = listener.next
    else:
        self.first = listener.next
    if listener.next != NULL:
        listener.next.previous = listener.previous
    self.count -= 1


cdef inline bint is_match(const key_pattern_t *self, const key_t *key) noexcept nogil:
    return (key.size >= self.prefix.size + self.suffix.size
            and memcmp(key.data, self.prefix.data, self.prefix.size) == 0
            and memcmp(key.data + key.size - self.suffix.size, self.suffix.data, self.suffix.size) == 0)


cdef void patterns_signal(pattern_table_t *self, uint32_t database, const key_t *key) noexcept nogil:
    cdef pattern_listener_t *listener = self.first
    while listener != NULL:
        if listener.database == database and is_match(&listener.pattern, key):
            atomic_store(listener.signal, 1)
        listener = listener.next


cdef void patterns_signal_all(pattern_table_t *self, uint32_t database) noexcept nogil:
    cdef pattern_listener_t *listener = self.first
    while listener != NULL:
        if listener.database == database:
            atomic_store(listener.signal, 1)
        listener = listener.next
