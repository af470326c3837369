"""Slow log and monitors: what the dispatcher feeds for the server's administration.

The slow log is kept per thread (newest first) and merged by SLOWLOG GET; ids are global. MONITOR
lines are formatted on the thread that executes and posted to every thread that has monitors.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, strlen

from dfly._core.loop.mailbox cimport mailbox_push, message_t
from dfly._core.loop.proactor cimport proactor_post, proactor_t
from dfly._core.net.connection cimport (CONNECTION_MONITOR, connection_prepare_output, connection_queue_flush,
                                        connection_t, net_thread_t)
from dfly._core.resp.reply cimport reply_deinit, reply_init, reply_raw, reply_t
from dfly._core.sys.alloc cimport net_alloc, net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_add, slice_t
from dfly._core.sys.clock cimport wall_us

__abi__ = DFLY_ABI_STAMP

cdef extern from "unistd.h" nogil:
    ssize_t write(int fd, const void *data, size_t size) noexcept

cdef struct monitor_message_t:
    message_t message
    reply_t line


cdef void keep_argument(slice_t *out, const char *data, size_t size) noexcept nogil:
    """Copies an argument, cut to SLOWLOG_ARG_BYTES with Redis' note of how much is missing."""
    cdef size_t kept = size if size <= SLOWLOG_ARG_BYTES else SLOWLOG_ARG_BYTES
    cdef char *copy = <char *>net_alloc(kept + 48)
    memcpy(copy, data, kept)
    if size > kept:
        kept += snprintf(copy + kept, 48, "... (%llu more bytes)", <unsigned long long>(size - kept))
    out.data = copy
    out.size = kept


cdef void free_entry(slow_entry_t *entry) noexcept nogil:
    cdef uint32_t i
    for i in range(entry.argc):
        net_free(<void *>entry.args[i].data)
    net_free(entry.client_name)
    net_free(entry)


cdef void slowlog_add(executor_t *self, connection_t *connection, const slice_t *argv, uint32_t argc,
                      int64_t duration_us) noexcept nogil:
    cdef slow_entry_t *entry
    cdef slow_entry_t *last
    cdef char note[48]
    cdef uint32_t i
    cdef int64_t limit = self.server.settings.slowlog_max_len
    if limit <= 0:
        return
    entry = <slow_entry_t *>net_zalloc(sizeof(slow_entry_t))
    entry.id = atomic_add(&self.server.slowlog_next_id, 1) - 1
    entry.time_s = wall_us() // 1000000
    entry.duration_us = duration_us
    entry.argc = argc if argc <= SLOWLOG_ARGS_MAX else SLOWLOG_ARGS_MAX
    for i in range(entry.argc):
        if argc > SLOWLOG_ARGS_MAX and i == SLOWLOG_ARGS_MAX - 1:
            snprintf(note, sizeof(note), "... (%u more arguments)", <unsigned int>(argc - SLOWLOG_ARGS_MAX + 1))
            keep_argument(&entry.args[i], note, strlen(note))
        else:
            keep_argument(&entry.args[i], argv[i].data, argv[i].size)
    memcpy(entry.peer, connection.peer_address, sizeof(entry.peer))
    if connection.name != NULL:
        entry.client_name = <char *>net_zalloc(strlen(connection.name) + 1)
        memcpy(entry.client_name, connection.name, strlen(connection.name))
    entry.next = self.slow_entries
    self.slow_entries = entry
    self.slow_count += 1
    while self.slow_count > limit:
        last = self.slow_entries
        if last.next == NULL:
            break
        while last.next.next != NULL:
            last = last.next
        free_entry(last.next)
        last.next = NULL
        self.slow_count -= 1


cdef void slowlog_clear(executor_t *self) noexcept nogil:
    cdef slow_entry_t *entry
    while self.slow_entries != NULL:
        entry = self.slow_entries
        self.slow_entries = entry.next
        free_entry(entry)
    self.slow_count = 0


cdef void append_quoted(reply_t *out, slice_t argument) noexcept nogil:
    """An argument as Redis prints it in MONITOR: quoted, control bytes escaped."""
    cdef char text[8]
    cdef size_t i
    cdef uint8_t c
    cdef int size
    reply_raw(out, "\"", 1)
    for i in range(argument.size):
        c = <uint8_t>argument.data[i]
        if c == c'\\' or c == c'"':
            size = snprintf(text, 8, "\\%c", <int>c)
        elif c == c'\n':
            size = snprintf(text, 8, "\\n")
        elif c == c'\r':
            size = snprintf(text, 8, "\\r")
        elif c == c'\t':
            size = snprintf(text, 8, "\\t")
        elif c == 7:
            size = snprintf(text, 8, "\\a")
        elif c == 8:
            size = snprintf(text, 8, "\\b")
        elif c >= 32 and c < 127:
            size = snprintf(text, 8, "%c", <int>c)
        else:
            size = snprintf(text, 8, "\\x%02x", <int>c)
        reply_raw(out, text, size)
    reply_raw(out, "\"", 1)


cdef void deliver_line(message_t *message, void *context) noexcept nogil:
    """On each thread: the line goes to its monitors."""
    cdef monitor_message_t *monitored = <monitor_message_t *>message
    cdef net_thread_t *net = <net_thread_t *>(<proactor_t *>context).context
    cdef connection_t *connection = net.connections
    while connection != NULL:
        if connection.flags & CONNECTION_MONITOR and not connection.is_closed:
            connection_prepare_output(connection)
            reply_raw(&connection.output, monitored.line.data, monitored.line.size)
            connection_queue_flush(connection)
        connection = connection.next
    reply_deinit(&monitored.line)
    net_free(monitored)


cdef void monitor_feed(executor_t *self, connection_t *connection, const slice_t *argv, uint32_t argc) noexcept nogil:
    cdef char head[160]
    cdef int64_t now_us = wall_us()
    cdef int size
    cdef uint32_t i
    cdef uint32_t t
    cdef monitor_message_t *monitored
    cdef reply_t line
    reply_init(&line, 2)
    size = snprintf(head, sizeof(head), "+%lld.%06lld [%u %s]", <long long>(now_us // 1000000),
                    <long long>(now_us % 1000000), <unsigned int>connection.database_index,
                    connection.peer_address)
    reply_raw(&line, head, size)
    for i in range(argc):
        reply_raw(&line, " ", 1)
        append_quoted(&line, argv[i])
    reply_raw(&line, "\r\n", 2)
    for t in range(self.server.thread_count):
        monitored = <monitor_message_t *>net_zalloc(sizeof(monitor_message_t))
        reply_init(&monitored.line, 2)
        reply_raw(&monitored.line, line.data, line.size)
        monitored.message.run = deliver_line
        proactor_post(self.server.proactors[t], &monitored.message)
    reply_deinit(&line)


cdef void control_submit(server_t *self, transaction_t *transaction) noexcept nogil:
    cdef uint64_t one = 1
    mailbox_push(&self.control, &transaction.done_message)
    write(self.control_fd, &one, 8)
