"""CLIENT TRACKING, CACHING, GETREDIR and TRACKINGINFO (redis.io/docs/latest/commands/client-tracking).

TRACKING is a transaction: a REDIRECT is looked for on all threads, in the middle of reading the options,
as its error comes before those of the options behind it; the prefixes of a broadcast are entered on all
shards before the reply.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp

from dfly._core.engine.command cimport (TRANSACTION_DONE, call_t, reply_not_integer, reply_syntax_error,
                                        sanitize_error, slice_equals, transaction_t)
from dfly._core.engine.shard cimport shard_t
from dfly._core.engine.tracking cimport (client_tracking_t, tracking_add_prefix, tracking_of,
                                         tracking_prefix_t, tracking_start, tracking_stop,
                                         tracking_want_prefix)
from dfly._core.engine.tracking_table cimport (TRACKING_BCAST, TRACKING_NOLOOP, TRACKING_ON, TRACKING_OPTIN,
                                               TRACKING_OPTOUT, tracker_release, tracker_retain)
from dfly._core.engine.transaction cimport hop_on_all_shards, hop_on_threads
from dfly._core.loop.proactor cimport proactor_t
from dfly._core.net.connection cimport connection_t, net_thread_t
from dfly._core.resp.reply cimport (reply_bulk, reply_bulk_text, reply_defer_array, reply_error,
                                    reply_int, reply_map, reply_ok, reply_set_deferred, reply_t)
from dfly._core.store.object cimport parse_int64
from dfly._core.sys.alloc cimport net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum:
    # transaction.stage
    PARSING = 0
    LOOKING_UP = 1               # the REDIRECT
    ENTERING = 2                 # prefixes, in the shards
    ERROR_MAX = 1024

cdef struct request_t:
    # transaction.state
    uint64_t mode
    client_tracking_t *redirect  # a reference, written by its thread; NULL: none, or not found
    int64_t redirect_id
    uint32_t next                # in argv: the next option
    uint32_t prefix_count
    slice_t prefixes[1]          # as many as there are arguments; they point into argv


cdef inline client_tracking_t *own_of(const connection_t *connection) noexcept nogil:
    return <client_tracking_t *>connection.tracking


cdef inline uint64_t mode_of(const connection_t *connection) noexcept nogil:
    return own_of(connection).tracker.mode if own_of(connection) != NULL else 0


cdef void find_redirect_hop(transaction_t *tx, proactor_t *proactor) noexcept nogil:
    cdef request_t *request = <request_t *>tx.state
    cdef connection_t *connection = (<net_thread_t *>proactor.context).connections
    while connection != NULL:
        if connection.id == <uint64_t>request.redirect_id and not connection.is_closed:
            tracker_retain(&tracking_of(connection).tracker)
            request.redirect = own_of(connection)
            return
        connection = connection.next


cdef bint parse_options(transaction_t *tx, request_t *request) noexcept nogil:
    """True: all are read, or a REDIRECT is to be looked up first (next > what was read). False: replied."""
    cdef slice_t word
    cdef bint has_more
    while request.next < tx.argc:
        word = tx.argv[request.next]
        has_more = request.next + 1 < tx.argc
        request.next += 1
        if slice_equals(word, "redirect") and has_more:
            if request.redirect_id != 0:
                reply_error(&tx.reply, "ERR A client can only redirect to a single other client")
                return False
            word = tx.argv[request.next]
            request.next += 1
            if not parse_int64(word.data, word.size, &request.redirect_id):
                reply_not_integer(&tx.reply)
                return False
            tx.stage = LOOKING_UP
            return True
        elif slice_equals(word, "bcast"):
            request.mode |= TRACKING_BCAST
        elif slice_equals(word, "optin"):
            request.mode |= TRACKING_OPTIN
        elif slice_equals(word, "optout"):
            request.mode |= TRACKING_OPTOUT
        elif slice_equals(word, "noloop"):
            request.mode |= TRACKING_NOLOOP
        elif slice_equals(word, "prefix") and has_more:
            request.prefixes[request.prefix_count] = tx.argv[request.next]
            request.prefix_count += 1
            request.next += 1
        else:
            reply_syntax_error(&tx.reply)
            return False
    return True


cdef inline bint overlap(slice_t a, slice_t b) noexcept nogil:
    return memcmp(a.data, b.data, a.size if a.size < b.size else b.size) == 0


cdef void reply_overlap(reply_t *reply, slice_t prefix, const char *kind, slice_t other) noexcept nogil:
    cdef char text[ERROR_MAX]
    snprintf(text, sizeof(text), "ERR Prefix '%.*s' overlaps with %s prefix '%.*s'. Prefixes for a single "
             "client must not overlap.", <int>(prefix.size if prefix.size < 256 else 256), prefix.data, kind,
             <int>(other.size if other.size < 256 else 256), other.data)
    sanitize_error(text)
    reply_error(reply, text)


cdef bint prefixes_fit(transaction_t *tx, const request_t *request) noexcept nogil:
    cdef tracking_prefix_t *own
    cdef uint32_t i
    cdef uint32_t j
    for i in range(request.prefix_count):
        own = own_of(tx.connection).prefixes if own_of(tx.connection) != NULL else NULL
        while own != NULL:
            if overlap(own.text, request.prefixes[i]):
                reply_overlap(&tx.reply, request.prefixes[i], "an existing", own.text)
                return False
            own = own.next
        for j in range(i + 1, request.prefix_count):
            if overlap(request.prefixes[i], request.prefixes[j]):
                reply_overlap(&tx.reply, request.prefixes[i], "another provided", request.prefixes[j])
                return False
    return True


cdef const char *find_conflict(const request_t *request, uint64_t before) noexcept nogil:
    """Between options, or with the mode the client is in; NULL: none."""
    cdef uint64_t mode = request.mode
    if request.prefix_count > 0 and not mode & TRACKING_BCAST:
        return "ERR PREFIX option requires BCAST mode to be enabled"
    if before & TRACKING_ON and (before ^ mode) & TRACKING_BCAST:
        return ("ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then "
                "re-enabling it with a different mode.")
    if mode & TRACKING_BCAST and mode & (TRACKING_OPTIN | TRACKING_OPTOUT):
        return "ERR OPTIN and OPTOUT are not compatible with BCAST"
    if mode & TRACKING_OPTIN and mode & TRACKING_OPTOUT:
        return "ERR You can't specify both OPTIN mode and OPTOUT mode"
    if (mode & TRACKING_OPTIN and before & TRACKING_OPTOUT
            or mode & TRACKING_OPTOUT and before & TRACKING_OPTIN):
        return ("ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then "
                "re-enabling it with a different mode.")
    return NULL


cdef void enter_prefixes_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef request_t *request = <request_t *>tx.state
    cdef uint32_t i
    for i in range(request.prefix_count):
        tracking_want_prefix(shard, request.prefixes[i], tx.connection)


cdef int refuse(transaction_t *tx) noexcept nogil:
    """Replied already: what it holds goes."""
    cdef request_t *request = <request_t *>tx.state
    if request.redirect != NULL:
        tracker_release(&request.redirect.tracker)
    return TRANSACTION_DONE


cdef int turn_on(transaction_t *tx, request_t *request) noexcept nogil:
    cdef client_tracking_t *own = own_of(tx.connection)
    cdef const char *conflict = find_conflict(request, mode_of(tx.connection))
    if conflict != NULL:
        reply_error(&tx.reply, conflict)
        return refuse(tx)
    if not request.mode & TRACKING_BCAST:
        return finish(tx, request)
    if not prefixes_fit(tx, request):
        return refuse(tx)
    if request.prefix_count == 0:
        # Every key.
        if own != NULL and own.prefixes != NULL and own.prefixes.text.size == 0:
            return finish(tx, request)
        request.prefixes[0].data = tx.argv[0].data
        request.prefixes[0].size = 0
        request.prefix_count = 1
    tx.stage = ENTERING
    return hop_on_all_shards(tx, enter_prefixes_hop)


cdef int finish(transaction_t *tx, request_t *request) noexcept nogil:
    cdef client_tracking_t *own = tracking_of(tx.connection)
    cdef uint32_t i
    for i in range(request.prefix_count):
        tracking_add_prefix(own, request.prefixes[i])
    tracking_start(own, request.mode, request.redirect)
    reply_ok(&tx.reply)
    return TRANSACTION_DONE


cdef int client_tracking(transaction_t *tx) noexcept nogil:
    cdef request_t *request = <request_t *>tx.state
    if tx.stage == ENTERING:
        return finish(tx, request)
    if request == NULL:
        tx.state = net_zalloc(sizeof(request_t) + tx.argc * sizeof(slice_t))
        request = <request_t *>tx.state
        request.next = 3
    if tx.stage == LOOKING_UP:
        tx.stage = PARSING
        if request.redirect == NULL:
            reply_error(&tx.reply, "ERR The client ID you want redirect to does not exist")
            return TRANSACTION_DONE
    if not parse_options(tx, request):
        return refuse(tx)
    if tx.stage == LOOKING_UP:
        return hop_on_threads(tx, find_redirect_hop)
    if slice_equals(tx.argv[2], "on"):
        return turn_on(tx, request)
    if slice_equals(tx.argv[2], "off"):
        tracking_stop(tx.connection)
        reply_ok(&tx.reply)
    else:
        reply_syntax_error(&tx.reply)
    return refuse(tx)


cdef void client_caching(call_t *call) noexcept nogil:
    cdef uint64_t mode = mode_of(call.connection)
    if not mode & TRACKING_ON:
        reply_error(call.reply, "ERR CLIENT CACHING can be called only when the client is in tracking mode "
                                "with OPTIN or OPTOUT mode enabled")
        return
    if slice_equals(call.argv[2], "yes"):
        if not mode & TRACKING_OPTIN:
            reply_error(call.reply,
                        "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
            return
    elif slice_equals(call.argv[2], "no"):
        if not mode & TRACKING_OPTOUT:
            reply_error(call.reply,
                        "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
            return
    else:
        reply_syntax_error(call.reply)
        return
    own_of(call.connection).is_caching = True
    reply_ok(call.reply)


cdef int64_t redirect_of(const connection_t *connection) noexcept nogil:
    cdef const client_tracking_t *own = own_of(connection)
    if not mode_of(connection) & TRACKING_ON:
        return -1
    return <int64_t>own.redirect.tracker.client_id if own.redirect != NULL else 0


cdef void client_getredir(call_t *call) noexcept nogil:
    reply_int(call.reply, redirect_of(call.connection))


cdef void client_trackinginfo(call_t *call) noexcept nogil:
    cdef reply_t *reply = call.reply
    cdef client_tracking_t *own = own_of(call.connection)
    cdef tracking_prefix_t *prefix
    cdef uint64_t mode = mode_of(call.connection)
    cdef size_t count = 1
    cdef size_t mark
    reply_map(reply, 3)
    reply_bulk_text(reply, "flags")
    mark = reply_defer_array(reply)
    reply_bulk_text(reply, "on" if mode & TRACKING_ON else "off")
    if mode & TRACKING_BCAST:
        reply_bulk_text(reply, "bcast")
        count += 1
    if mode & TRACKING_OPTIN:
        reply_bulk_text(reply, "optin")
        count += 1
        if own.is_caching:
            reply_bulk_text(reply, "caching-yes")
            count += 1
    if mode & TRACKING_OPTOUT:
        reply_bulk_text(reply, "optout")
        count += 1
        if own.is_caching:
            reply_bulk_text(reply, "caching-no")
            count += 1
    if mode & TRACKING_NOLOOP:
        reply_bulk_text(reply, "noloop")
        count += 1
    if own != NULL and own.is_redirect_broken:
        reply_bulk_text(reply, "broken_redirect")
        count += 1
    reply_set_deferred(reply, mark, c'~', count)
    reply_bulk_text(reply, "redirect")
    reply_int(reply, redirect_of(call.connection))
    reply_bulk_text(reply, "prefixes")
    mark = reply_defer_array(reply)
    count = 0
    prefix = own.prefixes if own != NULL else NULL
    while prefix != NULL:
        reply_bulk(reply, prefix.text.data, prefix.text.size)
        count += 1
        prefix = prefix.next
    reply_set_deferred(reply, mark, c'*', count)
