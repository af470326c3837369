"""Replies of many elements of one key: see long_reads.pxd."""

from libc.stdint cimport uint32_t
from libc.string cimport memset

from dfly._core.engine.command cimport (COMMAND_READONLY, SLICING_TRANSACTION, SLICING_WANTED, TRANSACTION_DONE,
                                        call_t, transaction_t)
from dfly._core.engine.database cimport drop_value, find_peek
from dfly._core.engine.shard cimport scope_t, shard_t
from dfly._core.engine.slices cimport (SLICES_LOOKED, slices_changed, slices_first, slices_look, slices_next,
                                       slices_plan_t, slices_work, work_all)
from dfly._core.engine.transaction cimport transaction_scope
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.object cimport object_t
from dfly._core.sys.alloc cimport net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP

cdef struct asked_t:
    call_t call                  # first: the handler hands it back
    long_read_t *read


cdef long_read_t *long_read_begin(call_t *call, const object_t *value, long_read_work_t go_on) noexcept nogil:
    cdef long_read_t *read
    if call.spec.flags & COMMAND_READONLY:
        # A look that comes to nothing: the one that ends counts.
        call.scope.shard.stats.hits -= 1
    if call.slicing != SLICING_TRANSACTION:
        call.slicing = SLICING_WANTED
        return NULL
    read = (<asked_t *>call).read
    read.slices.first_key = 0
    read.go_on = go_on
    read.still = NULL
    read.drop = NULL
    read.is_unseen = False
    read.value = value[0]
    read.is_begun = False
    read.is_wanted = True
    read.is_done = False
    return read


cdef void long_read_at_once(long_read_t *self, const object_t *value) noexcept nogil:
    work_all(&self.work)
    self.value = value[0]
    self.extra = NULL
    self.is_begun = False


cdef void look_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef asked_t asked
    if tx.state == NULL:
        tx.state = net_zalloc(sizeof(long_read_t))
    memset(&asked, 0, sizeof(asked_t))
    asked.read = <long_read_t *>tx.state
    asked.read.is_wanted = False
    asked.call.spec = tx.spec
    asked.call.argv = tx.argv
    asked.call.argc = tx.argc
    asked.call.key = tx.keys[0]
    asked.call.reply = &tx.reply
    asked.call.slicing = SLICING_TRANSACTION
    transaction_scope(tx, shard, &asked.call.scope)
    tx.spec.handler(&asked.call)


cdef bint is_still(const long_read_t *read, transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef scope_t scope
    cdef dash_ref_t ref
    transaction_scope(tx, shard, &scope)
    return find_peek(&scope, &tx.keys[0], &ref) and read.still(read, &ref.entry.value)


cdef void work_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef long_read_t *read = <long_read_t *>tx.state
    if (read.slices.looks_itself and (slices_changed(&read.slices) or read.is_unseen)
            and not is_still(read, tx, shard)):
        read.slices.is_stale = True
        return
    slices_work(&read.slices, tx, &read.work)
    read.is_done = read.go_on(read, tx)
    read.is_begun = True
    if read.is_done and tx.spec.flags & COMMAND_READONLY:
        shard.stats.hits += 1


cdef void drop_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    """Beside its reply it may have built one value (SPOP), in its key's result."""
    cdef long_read_t *read = <long_read_t *>tx.state
    cdef scope_t scope
    if read.drop != NULL:
        read.drop(read)
    if tx.results[0].has_value:
        transaction_scope(tx, shard, &scope)
        tx.results[0].has_value = False
        drop_value(&scope, &tx.results[0].value)


cdef slices_plan_t PLAN
PLAN.look = look_hop
PLAN.work = work_hop
PLAN.drop = drop_hop


cdef int long_read_step(transaction_t *tx) noexcept nogil:
    cdef int result = next_step(tx)
    if result == TRANSACTION_DONE:
        net_free((<long_read_t *>tx.state).extra)
        (<long_read_t *>tx.state).extra = NULL
    return result


cdef int next_step(transaction_t *tx) noexcept nogil:
    cdef long_read_t *read = <long_read_t *>tx.state
    if tx.stage == 0:
        return slices_look(tx, &PLAN)
    if tx.stage == SLICES_LOOKED:
        if not read.is_wanted:
            return TRANSACTION_DONE
        read.slices.looks_itself = read.still != NULL
        return slices_first(&read.slices, tx, <uint32_t>-1, read.slices.first_key, &PLAN)
    return slices_next(&read.slices, tx, read.is_done, &PLAN)
