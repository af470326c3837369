"""What the modules of the stream family share: IDs as arguments and in replies, entries in replies, lookups."""

from libc.stdint cimport int64_t, uint64_t

from dfly._core.engine.command cimport ACL_STREAM, call_t, command_handler_t, command_spec_t, key_row
from dfly._core.engine.shard cimport scope_t
from dfly._core.resp.reply cimport reply_t
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.id_index cimport id_less, stream_id_t
from dfly._core.store.object cimport key_t, object_pointer
from dfly._core.store.stream cimport stream_cursor_t, stream_last_entry, stream_references_t, stream_t
from dfly._core.store.stream_groups cimport stream_consumer_t, stream_group_t
from dfly._core.sys.base cimport slice_t

cdef enum stream_lookup_t:
    STREAM_ABSENT = 0
    STREAM_FOUND = 1
    STREAM_WRONG_TYPE = 2

cdef stream_lookup_t stream_lookup(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil         # to change
cdef stream_lookup_t stream_lookup_read(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil
# For reading; False after the wrong type's error was replied.
cdef bint find_stream(call_t *call, dash_ref_t *ref, bint *found) noexcept nogil
# Its second argument, to change it; *group NULL: there is no such key or no such group.
cdef bint find_group_to_change(call_t *call, dash_ref_t *ref, stream_group_t **group) noexcept nogil
# The consumer that reads, made if it is not there, and seen now; under update_begin.
cdef stream_consumer_t *take_consumer(scope_t *scope, const key_t *key, stream_group_t *group,
                                      slice_t name) noexcept nogil
# The consumer that claims, active now. As 7.0, it comes into being with the first entry that it gets.
cdef stream_consumer_t *take_claimer(scope_t *scope, const key_t *key, stream_group_t *group,
                                     slice_t name) noexcept nogil

# An ID as an argument: <ms>, <ms>-<seq>; unless strict, - and + too. reply may be NULL (no error reply).
# seq_given, if not NULL: <ms>-* is allowed and makes it False.
cdef bint parse_stream_id(reply_t *reply, slice_t text, stream_id_t *out, uint64_t missing_seq, bint strict,
                          bint *seq_given) noexcept nogil
# The ends of a range: - and + and "(" are allowed.
cdef bint parse_range_start(reply_t *reply, slice_t text, stream_id_t *out) noexcept nogil
cdef bint parse_range_end(reply_t *reply, slice_t text, stream_id_t *out) noexcept nogil
cdef bint parse_integer(reply_t *reply, slice_t text, int64_t *out) noexcept nogil       # or error reply

# KEEPREF, DELREF or ACKED; False: another word.
cdef bint parse_references(slice_t word, stream_references_t *out) noexcept nogil

cdef void reply_stream_id(reply_t *reply, stream_id_t id) noexcept nogil
# The entry that the cursor has read: its ID and its pairs.
cdef void reply_entry(reply_t *reply, stream_cursor_t *cursor) noexcept nogil
# The same with ms since its last delivery and the number of its deliveries, as XREADGROUP with CLAIM has them.
cdef void reply_claimed_entry(reply_t *reply, stream_cursor_t *cursor, int64_t idle_ms,
                              uint64_t deliveries) noexcept nogil
# An array of at most `count` entries (0: all) from start to end.
cdef void reply_range(reply_t *reply, const stream_t *stream, stream_id_t start, stream_id_t end, uint64_t count,
                      bint backward) noexcept nogil
# "<before><first><between><second><behind>", names as C strings, as Redis prints them.
cdef void reply_names_error(reply_t *reply, const char *before, slice_t first, const char *between, slice_t second,
                            const char *behind) noexcept nogil
# The error of commands whose key and group are their first two arguments.
cdef void reply_no_group(call_t *call) noexcept nogil
# A value that has lost these blocks or groups; freed in slices if they are many.
cdef void drop_stream(scope_t *scope, stream_t *dropped) noexcept nogil
# A group that is in no table: it may have millions of pending entries.
cdef void drop_group(scope_t *scope, stream_group_t *group) noexcept nogil


cdef inline command_spec_t stream_subcommand_row(const char *name, int arity, uint64_t flags, uint64_t key_flags,
                                                 command_handler_t handler) noexcept nogil:
    """Of a subcommand with its key behind it."""
    cdef command_spec_t row = key_row(name, arity, flags, ACL_STREAM, key_flags, handler)
    row.first_key = 2
    row.last_key = 2
    return row


cdef inline bint has_behind(const stream_t *stream, stream_id_t id) noexcept nogil:
    """Are there entries behind this ID?"""
    cdef stream_id_t last
    return id_less(id, stream.last_id) and stream_last_entry(stream, &last) and id_less(id, last)


cdef inline stream_t *stream_of(dash_ref_t *ref) noexcept nogil:
    return <stream_t *>object_pointer(&ref.entry.value)
