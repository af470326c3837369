"""Which threads have connections: as few as the load needs.

Any thread executes commands of any shard, so a second thread is needed only when the first is full. Until then it
costs: two threads that are each half busy sleep and are woken twice as often as one that is busy. So connections
begin on one thread; when it has no time left they are spread over twice as many. If fewer commands are executed then
than before they come back, and the next trial waits: so it is where the clients share the server's cores, or where
threads mostly wait for one another. They are brought together as well when the load has been small for some time, and,
for a trial, when transactions often wait for tokens: fewer threads may get more done. A server on which a command
takes long uses all threads for a while, so that others do not wait behind it. With
`conn_io_threads` the number is fixed.

Connections that cannot move (net/migration: subscribed, blocked, in a MULTI ...) stay where they are.
"""

from libc.stdint cimport int64_t, uint32_t

from dfly._core.engine.server_state cimport executor_t, server_t
from dfly._core.net.connection cimport connection_t

# The thread for a new connection.
cdef executor_t *balance_place(server_t *server) noexcept nogil
# On its own thread: once, and then ten times a second (engine/cron).
cdef void balance(executor_t *self) noexcept nogil
cdef void balance_start(executor_t *self) noexcept nogil
# Where all are busy at each look, some go when they have got their reply (service_t.on_sent).
cdef void balance_on_sent(connection_t *connection) noexcept nogil
# How many threads have connections, the first ones.
cdef uint32_t balance_threads(const server_t *server) noexcept nogil
# How many threads should have connections, from what they have published. Of the first thread, once a period.
cdef uint32_t wanted_threads(server_t *server, int64_t now_ms) noexcept nogil
