"""io_uring as the loop uses it: liburing for setting a ring up and down, the rest by hand.

Builds against liburing 2.1 (kernel headers of 2021) and newer: everything that came later is
defined here, under names of our own (URING_...), with the values of the kernel's interface
(linux/io_uring.h). Whether the running kernel knows a flag is found out by trying.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "liburing.h" nogil:
    """
    #include <sys/syscall.h>
    #ifndef __NR_io_uring_enter
    #define __NR_io_uring_enter 426
    #endif
    #ifndef __NR_io_uring_register
    #define __NR_io_uring_register 427
    #endif
    static inline uint32_t uring_load(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline void uring_store(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    static inline void uring_store16(uint16_t *p, uint16_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    """
    cdef struct io_uring_sqe:
        uint8_t opcode
        uint8_t flags
        uint16_t ioprio
        int32_t fd
        uint64_t off
        uint64_t addr
        uint32_t len
        uint32_t msg_flags
        uint32_t accept_flags
        uint32_t cancel_flags
        uint32_t poll32_events
        uint32_t open_flags
        uint64_t user_data
        uint16_t buf_group

    cdef struct io_uring_cqe:
        uint64_t user_data
        int32_t res
        uint32_t flags

    cdef struct io_uring_sq:
        uint32_t *khead
        uint32_t *ktail
        uint32_t *kring_mask
        uint32_t *kring_entries
        uint32_t *kflags
        uint32_t *array
        io_uring_sqe *sqes

    cdef struct io_uring_cq:
        uint32_t *khead
        uint32_t *ktail
        uint32_t *kring_mask
        io_uring_cqe *cqes

    ctypedef struct io_uring_ring "struct io_uring":
        io_uring_sq sq
        io_uring_cq cq
        int ring_fd

    cdef struct io_uring_params:
        uint32_t sq_entries
        uint32_t cq_entries
        uint32_t flags
        uint32_t features

    int io_uring_queue_init_params(unsigned int entries, io_uring_ring *ring,
                                   io_uring_params *params) noexcept
    void io_uring_queue_exit(io_uring_ring *ring) noexcept

    cdef enum:
        IORING_OP_NOP
        IORING_OP_POLL_ADD
        IORING_OP_ACCEPT
        IORING_OP_ASYNC_CANCEL
        IORING_OP_SEND
        IORING_OP_RECV
        IORING_OP_FSYNC
        IORING_OP_OPENAT
        IORING_OP_CLOSE
        IORING_OP_READ
        IORING_OP_WRITE
        IORING_OP_RENAMEAT
        IORING_OP_UNLINKAT
        IOSQE_BUFFER_SELECT
        IOSQE_ASYNC
        IORING_ENTER_GETEVENTS
        IORING_CQE_F_BUFFER
        __NR_io_uring_enter
        __NR_io_uring_register

    uint32_t uring_load(const uint32_t *p) noexcept
    void uring_store(uint32_t *p, uint32_t v) noexcept
    void uring_store16(uint16_t *p, uint16_t v) noexcept

cdef enum:
    URING_SETUP_CQSIZE = 1 << 3
    URING_SETUP_CLAMP = 1 << 4
    URING_SETUP_SUBMIT_ALL = 1 << 7          # 5.18
    URING_SETUP_COOP_TASKRUN = 1 << 8        # 5.19
    URING_SETUP_TASKRUN_FLAG = 1 << 9        # 5.19
    URING_SETUP_SINGLE_ISSUER = 1 << 12      # 6.0
    URING_SETUP_DEFER_TASKRUN = 1 << 13      # 6.1
    URING_SETUP_NO_SQARRAY = 1 << 16         # 6.6; liburing sets it by itself from 2.6 on
    URING_FEAT_NODROP = 1 << 1
    URING_FEAT_FAST_POLL = 1 << 5
    URING_FEAT_EXT_ARG = 1 << 8
    URING_FEAT_NO_IOWAIT = 1 << 17           # 6.15
    URING_ENTER_EXT_ARG = 1 << 3
    URING_ENTER_REGISTERED_RING = 1 << 4     # 5.18
    URING_ENTER_NO_IOWAIT = 1 << 7           # 6.15
    URING_SQ_CQ_OVERFLOW = 1 << 1
    URING_SQ_TASKRUN = 1 << 2
    URING_CQE_F_MORE = 1 << 1
    URING_CQE_BUFFER_SHIFT = 16
    URING_POLL_ADD_MULTI = 1 << 0
    URING_CANCEL_ALL = 1 << 0                # 5.19
    URING_CANCEL_FD = 1 << 1                 # 5.19
    URING_CANCEL_ANY = 1 << 2                # 5.19
    URING_RECVSEND_POLL_FIRST = 1 << 0       # 5.19
    URING_RECV_MULTISHOT = 1 << 1            # 6.0
    URING_ACCEPT_MULTISHOT = 1 << 0          # 5.19
    URING_REGISTER_RING_FDS = 20             # 5.18
    URING_UNREGISTER_RING_FDS = 21
    URING_REGISTER_PBUF_RING = 22            # 5.19
    URING_UNREGISTER_PBUF_RING = 23

cdef struct uring_buffer_t:
    # struct io_uring_buf; in entry 0 the kernel reads the ring's tail from the last field.
    uint64_t address
    uint32_t size
    uint16_t id
    uint16_t tail

cdef struct uring_buffer_registration_t:     # struct io_uring_buf_reg
    uint64_t ring_address
    uint32_t ring_entries
    uint16_t group
    uint16_t flags
    uint64_t reserved[3]

cdef struct uring_ring_registration_t:       # struct io_uring_rsrc_update
    uint32_t offset
    uint32_t reserved
    uint64_t data

cdef struct uring_timespec_t:                # struct __kernel_timespec
    int64_t seconds
    int64_t nanoseconds

cdef struct uring_wait_argument_t:           # struct io_uring_getevents_arg
    uint64_t signal_mask
    uint32_t signal_mask_size
    uint32_t minimal_wait_us
    uint64_t timeout
