"""Test door: stack addresses handed to where other threads would find them. Debug builds abort."""

from dfly._core.engine.listeners cimport listener_add, listener_remove, listener_t, listener_table_t, listeners_deinit
from dfly._core.engine.settings cimport settings_t
from dfly._core.engine.shard cimport grant_t, shard_free, shard_lock, shard_new, shard_submit, shard_t, shard_unlock
from dfly._core.loop.mailbox cimport message_t
from dfly._core.store.object cimport key_init, key_t
from dfly._core.sys.alloc cimport net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP


cdef void ignore(message_t *message, void *context) noexcept nogil:
    pass


def submit_from_stack():
    """The token is free, so the message runs at once: it is refused all the same."""
    cdef settings_t *settings = <settings_t *>net_zalloc(sizeof(settings_t))
    cdef shard_t *shard = shard_new(0, 1, settings)
    cdef message_t message
    message.run = ignore
    shard_submit(shard, &message)
    shard_free(shard)
    net_free(settings)


def lock_from_stack():
    cdef settings_t *settings = <settings_t *>net_zalloc(sizeof(settings_t))
    cdef shard_t *shard = shard_new(0, 1, settings)
    cdef grant_t grant
    if shard_lock(shard, &grant):
        shard_unlock(shard)
    shard_free(shard)
    net_free(settings)


def listen_from_stack():
    """A watch and a waiter for a key are listeners."""
    cdef listener_table_t *table = <listener_table_t *>net_zalloc(sizeof(listener_table_t))
    cdef listener_t listener
    cdef key_t key
    key_init(&key, b"key", 3)
    listener_add(table, 0, &key, &listener)
    listener_remove(table, &listener)
    listeners_deinit(table)
    net_free(table)
