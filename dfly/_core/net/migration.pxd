"""Moving a connection from one thread to another.

A connection moves only at rest: nothing of it is being executed, sent or waited for, and no table of its thread
knows it. Its stream leaves the loop first; bytes that arrive meanwhile are kept and delivered on the new thread. While
a walk over the connections of all threads is under way (CLIENT LIST, CLIENT KILL ...) none moves, so a walk sees
each exactly once; a move that finds a walk goes back to where it was.
"""

from dfly._core.net.connection cimport connection_t, net_thread_t

# On the connection's thread. False: it is not at rest.
cdef bint connection_move(connection_t *self, net_thread_t *destination) noexcept nogil

# Around a walk over all threads, by any thread: what moves has been posted before the first returns, and so comes
# before any message that is posted after it.
cdef void migration_hold() noexcept nogil
cdef void migration_let_go() noexcept nogil
