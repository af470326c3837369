"""GEOADD, GEOPOS, GEODIST, GEOHASH, GEOSEARCH, GEOSEARCHSTORE, and GEORADIUS and its sisters.

Positions are sorted sets whose scores are geohashes (store/geohash). How a search finds them is in geo_search. Order of
checks, replies and events as Redis 7.0.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memset

from dfly._core.commands.float_arguments cimport double_argument, parse_double
from dfly._core.commands.geo_search cimport (ORDER_ASC, ORDER_DESC, ORDER_NONE, found_t, reply_distance, reply_point,
                                             search_end, search_found, search_reply_work, search_resolve, search_t,
                                             search_work)
from dfly._core.commands.long_reads cimport long_read_begin, long_read_step, long_read_t, long_read_wanted
from dfly._core.commands.zsets cimport (ADD_CH, ADD_NX, ADD_XX, ZSET_FOUND, ZSET_WRONG_TYPE, find_zset, zset_add_all,
                                        zset_limits_of, zset_long_argument, zset_lookup_read, zset_store)
from dfly._core.engine.command cimport (ACL_GEO, COMMAND_DENYOOM, COMMAND_MOVABLE_KEYS, COMMAND_READONLY, COMMAND_WRITE,
                                        KEY_ACCESS, KEY_OW, KEY_RO, KEY_RW, KEY_UPDATE, TRANSACTION_DONE, call_t,
                                        command_spec_t, key_row, register_commands, reply_syntax_error,
                                        reply_wrong_type, slice_equals, transaction_row, transaction_t)
from dfly._core.engine.database cimport drop_value
from dfly._core.engine.shard cimport scope_t, shard_t
from dfly._core.engine.slices cimport (SLICES_LOOKED, slices_first, slices_look, slices_next, slices_plan_t, slices_t,
                                       slices_work, work_all, work_goes_on, work_t)
from dfly._core.engine.transaction cimport hop_on_shard, transaction_scope
from dfly._core.resp.reply cimport (reply_array, reply_bulk, reply_error, reply_int, reply_null, reply_null_array,
                                    reply_t)
from dfly._core.store.block_list cimport LIST_ITEM_SCRATCH, list_item_text
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.geohash cimport (GEO_TEXT, geo_decode, geo_distance, geo_encode, geo_is_valid, geo_point_t,
                                       geo_text)
from dfly._core.store.object cimport TYPE_ZSET, object_set_container, object_t
from dfly._core.store.sorted_set cimport zset_add, zset_count, zset_limits_t, zset_score
from dfly._core.sys.alloc cimport net_alloc, net_free, net_realloc, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum search_flag_t:
    BY_COORDINATES = 1           # GEORADIUS
    BY_MEMBER = 2                # GEORADIUSBYMEMBER
    NO_STORE = 4                 # the forms that only read
    SEARCH = 8                   # GEOSEARCH
    SEARCH_STORE = 16            # GEOSEARCHSTORE

cdef enum:
    STAGE_STORED = 5             # behind those of slices

# ---- Arguments ---------------------------------------------------------------------------------

cdef bint parse_point(reply_t *reply, const slice_t *argv, geo_point_t *out) noexcept nogil:
    cdef char text[128]
    if not double_argument(reply, argv[0], &out.longitude) or not double_argument(reply, argv[1], &out.latitude):
        return False
    if geo_is_valid(out[0]):
        return True
    snprintf(text, sizeof(text), "ERR invalid longitude,latitude pair %f,%f", out.longitude, out.latitude)
    reply_error(reply, text)
    return False


cdef bint parse_unit(reply_t *reply, slice_t word, double *out) noexcept nogil:
    if slice_equals(word, "m"):
        out[0] = 1
    elif slice_equals(word, "km"):
        out[0] = 1000
    elif slice_equals(word, "ft"):
        out[0] = 0.3048
    elif slice_equals(word, "mi"):
        out[0] = 1609.34
    else:
        reply_error(reply, "ERR unsupported unit provided. please use M, KM, FT, MI")
        return False
    return True


cdef bint parse_radius(reply_t *reply, const slice_t *argv, search_t *search) noexcept nogil:
    cdef double radius
    if not parse_double(argv[0], &radius):
        reply_error(reply, "ERR need numeric radius")
        return False
    if radius < 0:
        reply_error(reply, "ERR radius cannot be negative")
        return False
    search.shape.is_box = False
    if not parse_unit(reply, argv[1], &search.unit):
        return False
    search.shape.radius = radius * search.unit
    return True


cdef bint parse_box(reply_t *reply, const slice_t *argv, search_t *search) noexcept nogil:
    cdef double width
    cdef double height
    if not parse_double(argv[0], &width):
        reply_error(reply, "ERR need numeric width")
        return False
    if not parse_double(argv[1], &height):
        reply_error(reply, "ERR need numeric height")
        return False
    if width < 0 or height < 0:
        reply_error(reply, "ERR height or width cannot be negative")
        return False
    search.shape.is_box = True
    if not parse_unit(reply, argv[2], &search.unit):
        return False
    search.shape.width = width * search.unit
    search.shape.height = height * search.unit
    return True


cdef bint member_point(const object_t *value, slice_t member, geo_point_t *out) noexcept nogil:
    cdef double score
    if not zset_score(value, member.data, member.size, &score):
        return False
    out[0] = geo_decode(<uint64_t>score)
    return True


cdef bint take_member(reply_t *reply, const object_t *value, slice_t member, search_t *search) noexcept nogil:
    if member_point(value, member, &search.shape.center):
        return True
    reply_error(reply, "ERR could not decode requested zset member")
    return False


cdef bint parse_search_options(reply_t *reply, const slice_t *argv, uint32_t argc, uint32_t i, const object_t *value,
                               int flags, search_t *search) noexcept nogil:
    """value NULL: no such key; then members are taken for granted."""
    cdef bint is_search = flags & SEARCH != 0
    cdef bint from_member = False
    cdef bint from_point = False
    cdef bint by_radius = False
    cdef bint by_box = False
    cdef uint32_t more
    cdef slice_t word
    while i < argc:
        word = argv[i]
        more = argc - i - 1
        if slice_equals(word, "withdist"):
            search.with_distance = True
        elif slice_equals(word, "withhash"):
            search.with_hash = True
        elif slice_equals(word, "withcoord"):
            search.with_point = True
        elif slice_equals(word, "any"):
            search.any = True
        elif slice_equals(word, "asc"):
            search.order = ORDER_ASC
        elif slice_equals(word, "desc"):
            search.order = ORDER_DESC
        elif more > 0 and slice_equals(word, "count"):
            i += 1
            if not zset_long_argument(reply, argv[i].data, argv[i].size, &search.count):
                return False
            if search.count <= 0:
                reply_error(reply, "ERR COUNT must be > 0")
                return False
        elif (not flags & NO_STORE and not is_search and more > 0
                and (slice_equals(word, "store") or slice_equals(word, "storedist"))):
            i += 1
            search.has_store = True
            search.stores_distance = word.size == 9
        elif more > 0 and is_search and not from_point and slice_equals(word, "frommember"):
            i += 1
            from_member = True
            if value != NULL and not take_member(reply, value, argv[i], search):
                return False
        elif more > 1 and is_search and not from_member and slice_equals(word, "fromlonlat"):
            if not parse_point(reply, &argv[i + 1], &search.shape.center):
                return False
            from_point = True
            i += 2
        elif more > 1 and is_search and not by_box and slice_equals(word, "byradius"):
            if not parse_radius(reply, &argv[i + 1], search):
                return False
            by_radius = True
            i += 2
        elif more > 2 and is_search and not by_radius and slice_equals(word, "bybox"):
            if not parse_box(reply, &argv[i + 1], search):
                return False
            by_box = True
            i += 3
        elif flags & SEARCH_STORE and slice_equals(word, "storedist"):
            search.stores_distance = True
        else:
            reply_syntax_error(reply)
            return False
        i += 1
    return search_is_whole(reply, argv[0], flags, search, from_member or from_point, by_radius or by_box)


cdef void reply_one_of(reply_t *reply, const char *choice, slice_t name) noexcept nogil:
    cdef char text[192]
    snprintf(text, sizeof(text), "ERR exactly one of %s for %.*s", choice, <int>min(name.size, <size_t>64), name.data)
    reply_error(reply, text)


cdef bint search_is_whole(reply_t *reply, slice_t name, int flags, search_t *search, bint has_center,
                          bint has_extent) noexcept nogil:
    if search.has_store and (search.with_distance or search.with_hash or search.with_point):
        if flags & SEARCH_STORE:
            reply_error(reply, "ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options")
        else:
            reply_error(reply, "ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD "
                               "options")
        return False
    if flags & SEARCH and not has_center:
        reply_one_of(reply, "FROMMEMBER or FROMLONLAT can be specified", name)
        return False
    if flags & SEARCH and not has_extent:
        reply_one_of(reply, "BYRADIUS and BYBOX can be specified", name)
        return False
    if search.any and search.count == 0:
        reply_error(reply, "ERR the ANY argument requires COUNT argument")
        return False
    if search.count != 0 and search.order == ORDER_NONE and not search.any:
        search.order = ORDER_ASC
    return True


cdef bint parse_search(reply_t *reply, const slice_t *argv, uint32_t argc, const object_t *value, int flags,
                       search_t *search) noexcept nogil:
    cdef uint32_t options = 3 if flags & SEARCH_STORE else 2
    memset(search, 0, sizeof(search_t))
    search.unit = 1
    search.has_store = flags & SEARCH_STORE != 0
    if flags & BY_COORDINATES:
        options = 6
        if not parse_point(reply, &argv[2], &search.shape.center) or not parse_radius(reply, &argv[4], search):
            return False
    elif flags & BY_MEMBER:
        options = 5
        if value != NULL and (not take_member(reply, value, argv[2], search)
                              or not parse_radius(reply, &argv[3], search)):
            return False
    return parse_search_options(reply, argv, argc, options, value, flags, search)


# ---- Searches that only reply -------------------------------------------------------------------

cdef bint go_on_searching(long_read_t *read, transaction_t *tx) noexcept nogil:
    cdef search_t *search = <search_t *>read.extra
    if not search_work(search, &read.value, &read.work) or not search_reply_work(search, &tx.reply, &read.work):
        return False
    search_end(search)
    return True


cdef void drop_search(long_read_t *read) noexcept nogil:
    search_end(<search_t *>read.extra)


cdef void search_in_slices(call_t *call, const object_t *value, const search_t *search) noexcept nogil:
    cdef long_read_t *read = long_read_begin(call, value, go_on_searching)
    if read == NULL:
        return
    read.extra = net_realloc(read.extra, sizeof(search_t))
    (<search_t *>read.extra)[0] = search[0]
    read.drop = drop_search


cdef void search_at_once(reply_t *reply, search_t *search, const object_t *value) noexcept nogil:
    cdef work_t work
    work_all(&work)
    search_work(search, value, &work)
    search_reply_work(search, reply, &work)
    search_end(search)


cdef void search_here(call_t *call, int flags) noexcept nogil:
    cdef const object_t *value = NULL
    cdef search_t search
    cdef dash_ref_t ref
    cdef bint found
    if not find_zset(call, &ref, &found):
        return
    if found:
        value = &ref.entry.value
    if not parse_search(call.reply, call.argv, call.argc, value, flags, &search):
        return
    if value == NULL:
        reply_array(call.reply, 0)
    elif long_read_wanted(call, search_resolve(&search, value)):
        search_in_slices(call, value, &search)
    else:
        search_at_once(call.reply, &search, value)


cdef void geosearch_command(call_t *call) noexcept nogil:
    search_here(call, SEARCH | NO_STORE)


cdef void georadius_ro_command(call_t *call) noexcept nogil:
    search_here(call, BY_COORDINATES | NO_STORE)


cdef void georadiusbymember_ro_command(call_t *call) noexcept nogil:
    search_here(call, BY_MEMBER | NO_STORE)


# ---- Searches that may store -------------------------------------------------------------------
# tx.numbers[0]: which key is the source; the other one, if there is one, is the destination.

cdef struct search_job_t:
    slices_t slices
    work_t work
    search_t search
    object_t value               # the source, borrowed
    object_t built               # what is stored
    uint64_t built_count
    bint is_done


cdef void look_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    """The value is a borrowed copy: with any change of the set what was found is dropped."""
    cdef uint32_t i = <uint32_t>tx.numbers[0]
    cdef scope_t scope
    cdef dash_ref_t ref
    if tx.key_shards[i] != shard.index:
        return
    transaction_scope(tx, shard, &scope)
    tx.results[i].number = zset_lookup_read(&scope, &tx.keys[i], &ref)
    if tx.results[i].number == ZSET_FOUND:
        tx.results[i].value = ref.entry.value


cdef bint build(search_job_t *job, scope_t *scope) noexcept nogil:
    cdef zset_limits_t limits = zset_limits_of(scope)
    cdef const search_t *search = &job.search
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef const found_t *found
    cdef slice_t member
    cdef double score
    while job.built_count < search.found_count:
        if not work_goes_on(&job.work):
            return False
        found = search_found(search, job.built_count)
        job.built_count += 1
        member = list_item_text(&found.member, scratch)
        score = found.distance / search.unit if search.stores_distance else found.score
        zset_add(&job.built, member.data, member.size, score, &limits)
    return True


cdef void search_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef search_job_t *job = <search_job_t *>tx.state
    cdef scope_t scope
    transaction_scope(tx, shard, &scope)
    slices_work(&job.slices, tx, &job.work)
    if not search_work(&job.search, &job.value, &job.work):
        return
    if tx.key_count == 1:
        job.is_done = search_reply_work(&job.search, &tx.reply, &job.work)
    else:
        job.is_done = build(job, &scope)
    if job.is_done:
        search_end(&job.search)


cdef void drop_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef search_job_t *job = <search_job_t *>tx.state
    cdef scope_t scope
    transaction_scope(tx, shard, &scope)
    search_end(&job.search)
    drop_value(&scope, &job.built)
    # The look that ends counts.
    tx.shards[tx.key_shards[tx.numbers[0]]].stats.hits -= 1


cdef void store_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    """Nothing found, nothing built: the key goes."""
    cdef search_job_t *job = <search_job_t *>tx.state
    cdef uint32_t source = <uint32_t>tx.numbers[0]
    cdef scope_t scope
    transaction_scope(tx, shard, &scope)
    reply_int(&tx.reply, <int64_t>zset_count(&job.built))
    zset_store(&scope, &tx.keys[1 - source], &job.built, "geosearchstore" if source == 1 else "georadiusstore")


cdef slices_plan_t PLAN
PLAN.look = look_hop
PLAN.work = search_hop
PLAN.drop = drop_hop


cdef search_job_t *job_of(transaction_t *tx) noexcept nogil:
    if tx.state == NULL:
        tx.state = net_zalloc(sizeof(search_job_t))
    return <search_job_t *>tx.state


cdef int begin_search(transaction_t *tx, int flags) noexcept nogil:
    """The source has been looked up."""
    cdef uint32_t source = <uint32_t>tx.numbers[0]
    cdef const object_t *value = NULL
    cdef search_job_t *job
    if tx.results[source].number == ZSET_WRONG_TYPE:
        reply_wrong_type(&tx.reply)
        return TRANSACTION_DONE
    job = job_of(tx)
    if tx.results[source].number == ZSET_FOUND:
        value = &tx.results[source].value
    if not parse_search(&tx.reply, tx.argv, tx.argc, value, flags, &job.search):
        return TRANSACTION_DONE
    object_set_container(&job.built, TYPE_ZSET, NULL)
    if value != NULL:
        job.value = value[0]
        job.built_count = 0
        job.is_done = False
        return slices_first(&job.slices, tx, search_resolve(&job.search, value), 1 if source == 1 else 0, &PLAN)
    return store_or_reply(tx)


cdef int store_or_reply(transaction_t *tx) noexcept nogil:
    if tx.key_count == 2:
        tx.stage = STAGE_STORED
        return hop_on_shard(tx, tx.key_shards[1 - tx.numbers[0]], store_hop)
    if tx.results[0].number != ZSET_FOUND:
        reply_array(&tx.reply, 0)
    return TRANSACTION_DONE


cdef int search_step(transaction_t *tx, int flags) noexcept nogil:
    cdef search_job_t *job = <search_job_t *>tx.state
    cdef int result
    if tx.stage == 0:
        tx.numbers[0] = 1 if flags & SEARCH_STORE else 0
        return slices_look(tx, &PLAN)
    if tx.stage == SLICES_LOOKED:
        return begin_search(tx, flags)
    if tx.stage == STAGE_STORED:
        return TRANSACTION_DONE
    result = slices_next(&job.slices, tx, job.is_done, &PLAN)
    return store_or_reply(tx) if result == TRANSACTION_DONE else result


cdef int geosearchstore_step(transaction_t *tx) noexcept nogil:
    return search_step(tx, SEARCH | SEARCH_STORE)


cdef int georadius_step(transaction_t *tx) noexcept nogil:
    return search_step(tx, BY_COORDINATES)


cdef int georadiusbymember_step(transaction_t *tx) noexcept nogil:
    return search_step(tx, BY_MEMBER)


cdef int radius_keys(const slice_t *argv, uint32_t argc, uint32_t *out) noexcept nogil:
    """The source, and what STORE or STOREDIST name last."""
    cdef uint32_t i = 5
    cdef int count = 1
    out[0] = 1
    while i + 1 < argc:
        if slice_equals(argv[i], "store") or slice_equals(argv[i], "storedist"):
            i += 1
            out[1] = i
            count = 2
        i += 1
    return count


# ---- GEOADD, GEOPOS, GEODIST, GEOHASH ----------------------------------------------------------

cdef void geoadd_command(call_t *call) noexcept nogil:
    cdef geo_point_t point
    cdef uint32_t first = 2
    cdef uint32_t flags = 0
    cdef uint32_t count
    cdef double *scores
    cdef uint32_t i
    while first < call.argc:
        if slice_equals(call.argv[first], "nx"):
            flags |= ADD_NX
        elif slice_equals(call.argv[first], "xx"):
            flags |= ADD_XX
        elif slice_equals(call.argv[first], "ch"):
            flags |= ADD_CH
        else:
            break
        first += 1
    count = (call.argc - first) // 3
    if (call.argc - first) % 3 != 0 or count == 0 or (flags & ADD_NX and flags & ADD_XX):
        reply_syntax_error(call.reply)
        return
    scores = <double *>net_alloc(count * sizeof(double))
    for i in range(count):
        if not parse_point(call.reply, &call.argv[first + 3 * i], &point):
            break
        scores[i] = <double>geo_encode(point)
    else:
        zset_add_all(call, scores, first, 3, flags)
    net_free(scores)


cdef void geopos_command(call_t *call) noexcept nogil:
    cdef geo_point_t point
    cdef dash_ref_t ref
    cdef bint found
    cdef uint32_t i
    if not find_zset(call, &ref, &found):
        return
    reply_array(call.reply, call.argc - 2)
    for i in range(2, call.argc):
        if found and member_point(&ref.entry.value, call.argv[i], &point):
            reply_point(call.reply, point)
        else:
            reply_null_array(call.reply)


cdef void geohash_command(call_t *call) noexcept nogil:
    cdef char text[GEO_TEXT]
    cdef geo_point_t point
    cdef dash_ref_t ref
    cdef bint found
    cdef uint32_t i
    if not find_zset(call, &ref, &found):
        return
    reply_array(call.reply, call.argc - 2)
    for i in range(2, call.argc):
        if found and member_point(&ref.entry.value, call.argv[i], &point):
            geo_text(point, text)
            reply_bulk(call.reply, text, GEO_TEXT)
        else:
            reply_null(call.reply)


cdef void geodist_command(call_t *call) noexcept nogil:
    cdef geo_point_t a
    cdef geo_point_t b
    cdef double unit = 1
    cdef dash_ref_t ref
    cdef bint found
    if call.argc == 5:
        if not parse_unit(call.reply, call.argv[4], &unit):
            return
    elif call.argc > 5:
        reply_syntax_error(call.reply)
        return
    if not find_zset(call, &ref, &found):
        return
    if (found and member_point(&ref.entry.value, call.argv[2], &a)
            and member_point(&ref.entry.value, call.argv[3], &b)):
        reply_distance(call.reply, geo_distance(a, b) / unit)
    else:
        reply_null(call.reply)


# ---- Rows --------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 10

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    cdef uint64_t read = COMMAND_READONLY
    cdef uint64_t grow = COMMAND_WRITE | COMMAND_DENYOOM
    cdef uint64_t look = KEY_RO | KEY_ACCESS
    cdef int i
    rows[0] = key_row("geoadd", -5, grow, ACL_GEO, KEY_RW | KEY_UPDATE, geoadd_command)
    rows[1] = key_row("geopos", -2, read, ACL_GEO, look, geopos_command)
    rows[2] = key_row("geohash", -2, read, ACL_GEO, look, geohash_command)
    rows[3] = key_row("geodist", -4, read, ACL_GEO, look, geodist_command)
    rows[4] = key_row("geosearch", -7, read, ACL_GEO, look, geosearch_command)
    rows[5] = key_row("georadius_ro", -6, read, ACL_GEO, look, georadius_ro_command)
    rows[6] = key_row("georadiusbymember_ro", -5, read, ACL_GEO, look, georadiusbymember_ro_command)
    for i in range(4, 7):
        rows[i].step = long_read_step
    rows[7] = transaction_row("geosearchstore", -8, grow, ACL_GEO, 1, 2, 1, KEY_OW | KEY_UPDATE, geosearchstore_step)
    rows[8] = transaction_row("georadius", -6, grow | COMMAND_MOVABLE_KEYS, ACL_GEO, 1, 1, 1, look, georadius_step)
    rows[9] = transaction_row("georadiusbymember", -5, grow | COMMAND_MOVABLE_KEYS, ACL_GEO, 1, 1, 1, look,
                              georadiusbymember_step)
    rows[8].get_keys = radius_keys
    rows[9].get_keys = radius_keys
    register_commands(rows, ROW_COUNT)
