"""XAUTOCLAIM: what has been pending for long goes to another consumer; of many entries in slices (stream_claims).

Order of checks, replies and events as Redis 7.0. WATCH does not see a change of what is pending, as there.
"""

from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t

from dfly._core.commands.long_reads cimport long_read_begin, long_read_step, long_read_t, long_read_wanted
from dfly._core.commands.stream_claims cimport (claim_begin, claim_by_id, claim_choose, claim_finish, claim_free,
                                                claim_is_still, claim_reply, claim_t)
from dfly._core.commands.streams cimport (find_group_to_change, parse_range_start, reply_no_group, reply_stream_id,
                                          stream_of, take_claimer)
from dfly._core.engine.command cimport (ACL_STREAM, COMMAND_FAST, COMMAND_WRITE, KEY_DELETE, KEY_RW, call_t,
                                        command_spec_t, key_row, register_commands, reply_syntax_error, slice_equals,
                                        transaction_t)
from dfly._core.engine.database cimport NOTIFY_STREAM, find_write, update_begin, update_end_unseen
from dfly._core.engine.shard cimport scope_t
from dfly._core.engine.slices cimport work_all, work_goes_on, work_t
from dfly._core.engine.transaction cimport transaction_scope
from dfly._core.resp.reply cimport reply_array, reply_deinit, reply_error, reply_init, reply_raw, reply_t
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.id_index cimport stream_id_t
from dfly._core.store.object cimport TYPE_STREAM, key_t, object_is_container, object_pointer, object_t, parse_int64
from dfly._core.store.stream cimport stream_t
from dfly._core.store.stream_groups cimport stream_consumer_t, stream_group_t
from dfly._core.sys.alloc cimport net_realloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum:
    COUNT = 100
    ATTEMPTS_FACTOR = 10         # pending entries that it looks at for each one it may claim

cdef struct options_t:
    int64_t min_idle
    int64_t count
    stream_id_t start
    bint just_id

cdef struct autoclaim_t:
    claim_t claim
    uint64_t gone_replied
    bint has_header


# ---- Arguments ---------------------------------------------------------------------------------

cdef bint parse(call_t *call, options_t *out) noexcept nogil:
    cdef uint32_t i = 6
    out.count = COUNT
    out.just_id = False
    if not parse_int64(call.argv[4].data, call.argv[4].size, &out.min_idle):
        reply_error(call.reply, "ERR Invalid min-idle-time argument for XAUTOCLAIM")
        return False
    out.min_idle = max(out.min_idle, <int64_t>0)
    if not parse_range_start(call.reply, call.argv[5], &out.start):
        return False
    while i < call.argc:
        if slice_equals(call.argv[i], "count") and i + 1 < call.argc:
            i += 1
            if (not parse_int64(call.argv[i].data, call.argv[i].size, &out.count) or out.count < 1
                    or out.count > INT64_MAX // <int64_t>sizeof(stream_id_t)):
                reply_error(call.reply, "ERR COUNT must be > 0")
                return False
        elif slice_equals(call.argv[i], "justid"):
            out.just_id = True
        else:
            reply_syntax_error(call.reply)
            return False
        i += 1
    return True


# ---- The work ----------------------------------------------------------------------------------

cdef bint reply_gone(autoclaim_t *self, reply_t *reply, work_t *work) noexcept nogil:
    if self.gone_replied == 0:
        reply_array(reply, self.claim.gone.count)
    while self.gone_replied < self.claim.gone.count:
        # A slice that ends here must not begin the array again.
        if self.gone_replied > 0 and not work_goes_on(work):
            return False
        reply_stream_id(reply, self.claim.gone.entries[self.gone_replied].id)
        self.gone_replied += 1
    return True


cdef void reply_header(autoclaim_t *self, reply_t *reply) noexcept nogil:
    if not self.has_header:
        self.has_header = True
        reply_array(reply, 3)
        reply_stream_id(reply, self.claim.next)
        reply_array(reply, self.claim.chosen.count)


cdef bint work_on(autoclaim_t *self, const stream_t *stream, reply_t *reply, work_t *work) noexcept nogil:
    """Chooses and replies, as long as there is work to be had; True: it can be finished."""
    if not claim_choose(&self.claim, stream, work):
        return False
    reply_header(self, reply)
    return claim_reply(&self.claim, stream, reply, work) and reply_gone(self, reply, work)


cdef void work_at_once(autoclaim_t *self, const stream_t *stream, stream_group_t *group,
                       reply_t *reply) noexcept nogil:
    cdef reply_t entries
    cdef work_t work
    work_all(&work)
    reply_init(&entries, reply.resp)
    self.claim.at_once = &entries
    claim_begin(&self.claim, stream, group, False)
    claim_choose(&self.claim, stream, &work)
    reply_header(self, reply)
    reply_raw(reply, entries.data, entries.size)
    reply_deinit(&entries)
    reply_gone(self, reply, &work)


cdef void finish(autoclaim_t *self, scope_t *scope, const key_t *key, dash_ref_t *ref, slice_t name) noexcept nogil:
    cdef stream_consumer_t *consumer = NULL
    update_begin(scope, ref)
    if self.claim.chosen.count > 0:
        consumer = take_claimer(scope, key, self.claim.group, name)
    claim_finish(&self.claim, consumer, scope.now_ms)
    update_end_unseen(scope, key, NOTIFY_STREAM, NULL)
    claim_free(&self.claim)


# ---- In slices ---------------------------------------------------------------------------------

cdef bint is_still(const long_read_t *read, const object_t *value) noexcept nogil:
    cdef autoclaim_t *self = <autoclaim_t *>read.extra
    return (object_is_container(value, TYPE_STREAM) and object_pointer(value) == object_pointer(&read.value)
            and claim_is_still(&self.claim, <const stream_t *>object_pointer(value)))


cdef bint go_on(long_read_t *read, transaction_t *tx) noexcept nogil:
    cdef autoclaim_t *self = <autoclaim_t *>read.extra
    cdef scope_t scope
    cdef dash_ref_t ref
    transaction_scope(tx, tx.shards[tx.key_shards[0]], &scope)
    find_write(&scope, &tx.keys[0], &ref)
    if not work_on(self, stream_of(&ref), &tx.reply, &read.work):
        return False
    finish(self, &scope, &tx.keys[0], &ref, tx.argv[3])
    return True


cdef void drop(long_read_t *read) noexcept nogil:
    claim_free(&(<autoclaim_t *>read.extra).claim)


cdef void go_in_slices(call_t *call, const object_t *value, stream_group_t *group,
                       const autoclaim_t *wanted) noexcept nogil:
    cdef long_read_t *read = long_read_begin(call, value, go_on)
    cdef autoclaim_t *self
    if read == NULL:
        return
    read.extra = net_realloc(read.extra, sizeof(autoclaim_t))
    read.still = is_still
    read.is_unseen = True
    read.drop = drop
    self = <autoclaim_t *>read.extra
    self[0] = wanted[0]
    claim_begin(&self.claim, <const stream_t *>object_pointer(value), group, True)


# ---- The command -------------------------------------------------------------------------------

cdef void xautoclaim_command(call_t *call) noexcept nogil:
    cdef stream_group_t *group
    cdef autoclaim_t wanted
    cdef options_t options
    cdef dash_ref_t ref
    cdef uint64_t attempts
    if not parse(call, &options) or not find_group_to_change(call, &ref, &group):
        return
    if group == NULL:
        reply_no_group(call)
        return
    attempts = <uint64_t>min(options.count, INT64_MAX // ATTEMPTS_FACTOR) * ATTEMPTS_FACTOR
    claim_by_id(&wanted.claim, options.start, options.min_idle, <uint64_t>options.count, attempts, options.just_id,
                call.scope.now_ms)
    wanted.gone_replied = 0
    wanted.has_header = False
    if long_read_wanted(call, min(attempts, group.pending.count)):
        go_in_slices(call, &ref.entry.value, group, &wanted)
        return
    work_at_once(&wanted, stream_of(&ref), group, call.reply)
    finish(&wanted, &call.scope, &call.key, &ref, call.argv[3])


# ---- Rows --------------------------------------------------------------------------------------

cdef command_spec_t row


def register():
    """Registers the family's row."""
    global row
    row = key_row("xautoclaim", -6, COMMAND_WRITE | COMMAND_FAST, ACL_STREAM, KEY_RW | KEY_DELETE, xautoclaim_command)
    row.step = long_read_step
    register_commands(&row, 1)
