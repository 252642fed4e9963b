"""The Cython face: convolution and pooling on raw pointers, without the interpreter's lock (see docs/cython.md).

A *plan* holds what `cyconv.functional` would have found for the same arguments: the same checks, the same algorithm,
the same kernels, hence the same bits. Checking and planning need the interpreter, computing does not. The functions
that take a geometry instead keep the plans of the geometries that they have seen in a table, which is read without it.
"""

cimport cython
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from cyconv.kernels._kernel cimport NO_MEMORY, Convolution, GradientOfWeights, Pooling
from cyconv.kernels._threads cimport meet
from cyconv.kernels._workspace cimport Block, borrow, give

import os
import threading

from cyconv import _settings
from cyconv.functional import _raw

cdef extern from "lock.h" nogil:
    void lock_take() noexcept
    void lock_give() noexcept
    int unlock_after_fork() noexcept

cdef extern from "sched.h" nogil:
    int sched_yield() noexcept

cdef extern from "Python.h":
    int Py_AddPendingCall(int (*call)(void*) except -1, void* argument) noexcept
    void PyErr_SetObject(object kind, object error)
    void PyErr_WriteUnraisable(object where)
    int PyThreadState_SetAsyncExc(unsigned long thread, object kind) noexcept
    int Py_MakePendingCalls() except -1
    unsigned long PyThread_get_thread_ident()
    void* PyGILState_GetThisThreadState() nogil

unlock_after_fork()


# ---------------------------------------------------------------------------------------------- settings, for all times

cdef int usual_threads = 1
cdef int most_threads = 1
cdef double serial_work = 0
cdef Py_ssize_t epoch = 0


def _read_settings():
    """Copy what `cyconv._settings` says to where it can be read without the interpreter."""
    global usual_threads, most_threads, serial_work, epoch
    usual_threads = _settings.get_num_threads()
    most_threads = 1 if _settings.serial_only() else 1024
    serial_work = _settings.SERIAL_WORK
    epoch = _settings.epoch()


_settings.listen(_read_settings)


cdef inline int team(int threads, double work) noexcept nogil:
    """How many threads to use: as `_settings.threads_for`."""
    if threads <= 0:
        threads = usual_threads
    threads = min(threads, most_threads)
    if threads == 1 or work < serial_work:
        return 1
    return meet(threads, work)


# --------------------------------------------------------------------------------------------------------------- status

cdef const char* status_message(int status) noexcept nogil:
    if status == CYCONV_OK:
        return "no error"
    if status == CYCONV_BAD_GEOMETRY:
        return "cyconv: the geometry is not possible (conv_plan and pool_plan raise what is wrong with it)"
    if status == CYCONV_NO_MEMORY:
        return "cyconv: no memory for the workspace of a kernel, or an array larger than any memory"
    if status == CYCONV_BAD_POINTER:
        return "cyconv: a pointer is NULL where there must be an array, or not aligned to its elements"
    if status == CYCONV_BAD_INDEX:
        return "cyconv: indices of maxima point outside the input"
    if status == CYCONV_INTERRUPTED:
        return "cyconv: an exception came while a geometry was planned, and nothing was computed"
    return "cyconv: no such status"


cdef int check_status(int status) except -1:
    if status == CYCONV_OK:
        return 0
    if status == CYCONV_INTERRUPTED:
        Py_MakePendingCalls()  # raises the exception itself in the main thread
        raise RuntimeError(status_message(status).decode())
    raise (MemoryError if status == CYCONV_NO_MEMORY else ValueError)(status_message(status).decode())


cdef unsigned long main_thread = threading.main_thread().ident


cdef int raise_now(void* error) except -1:
    kept = <object>error
    Py_DECREF(kept)
    raise kept


cdef void raise_later(object error, bint known) noexcept:
    """Raise it in this thread once that runs Python code; report it in a thread that Python does not know."""
    if not known:
        PyErr_SetObject(type(error), error)
        PyErr_WriteUnraisable("cyconv.cython")
        return
    Py_INCREF(error)
    if PyThread_get_thread_ident() != main_thread or Py_AddPendingCall(raise_now, <void*>error) != 0:
        Py_DECREF(error)
        PyThreadState_SetAsyncExc(PyThread_get_thread_ident(), type(error))


cdef inline int told(int status) noexcept nogil:
    """What a kernel returned, as a status."""
    return CYCONV_NO_MEMORY if status == NO_MEMORY else CYCONV_BAD_INDEX if status > 0 else CYCONV_OK


cdef inline bint wrong(const void* pointer, Py_ssize_t itemsize) noexcept nogil:
    return pointer == NULL or <size_t>pointer % <size_t>itemsize != 0


cdef inline bint misplaced(const void* pointer, Py_ssize_t itemsize) noexcept nogil:
    """Of an array that may be left out."""
    return <size_t>pointer % <size_t>itemsize != 0


# ---------------------------------------------------------------------------------------------------------- convolution

cdef ConvGeometry conv_geometry(Py_ssize_t rank) noexcept nogil:
    cdef ConvGeometry g
    cdef int i
    memset(&g, 0, sizeof(g))
    g.rank, g.batch, g.in_channels, g.out_channels, g.groups = rank, 1, 1, 1, 1
    for i in range(3):
        g.stride[i] = g.dilation[i] = 1
    return g


cdef object MAKER = object()  # what a plan is made with here: a plan without kernels must never come to be


cdef class ConvPlan:
    def __cinit__(self, maker=None, *_, **__):
        if maker is not MAKER:
            raise TypeError("ConvPlan: plans are made by conv_plan, which takes a geometry")

    def __reduce__(self):
        raise TypeError("ConvPlan: plans cannot be copied or pickled; conv_plan makes one anew")

    cdef int output(self, Py_ssize_t* size) noexcept nogil:
        return CYCONV_BAD_GEOMETRY

    cdef int forward(self, void* y, const void* x, const void* weight, const void* bias, int threads) noexcept nogil:
        return CYCONV_BAD_GEOMETRY

    cdef int input_gradient(self, void* dx, const void* dy, const void* weight, int threads) noexcept nogil:
        return CYCONV_BAD_GEOMETRY

    cdef int weight_gradient(self, void* dw, void* db, const void* dy, const void* x, int threads) noexcept nogil:
        return CYCONV_BAD_GEOMETRY

    cdef Py_ssize_t packed_bytes(self) noexcept nogil:
        return 0

    cdef int pack(self, void* packed, const void* weight, int threads) noexcept nogil:
        return CYCONV_BAD_GEOMETRY

    cdef int forward_packed(self, void* y, const void* x, const void* packed, const void* bias,
                            int threads) noexcept nogil:
        return CYCONV_BAD_GEOMETRY


@cython.final
@cython.auto_pickle(False)
@cython.no_gc_clear
cdef class _ConvPlan(ConvPlan):
    cdef Convolution ahead, back
    cdef GradientOfWeights sums
    cdef Py_ssize_t ahead_images, back_images, sums_images, rank, itemsize, batch, weights, plane
    cdef Py_ssize_t size[3]
    cdef double work
    cdef bint mirrored  # `back` takes weights with the taps of every `plane` of a kernel in reverse order
    cdef readonly str algorithm
    cdef object geometry

    @property
    def output_shape(self):
        return self.geometry.output_shape

    cdef int output(self, Py_ssize_t* size) noexcept nogil:
        if wrong(size, sizeof(Py_ssize_t)):
            return CYCONV_BAD_POINTER
        memcpy(size, self.size, self.rank * sizeof(Py_ssize_t))
        return CYCONV_OK

    cdef int forward(self, void* y, const void* x, const void* weight, const void* bias, int threads) noexcept nogil:
        cdef Block packed
        cdef int status
        if self.batch == 0:
            return CYCONV_OK
        if wrong(weight, self.itemsize) or wrong(x, self.itemsize) or wrong(y, self.itemsize):
            return CYCONV_BAD_POINTER
        if borrow(&packed, self.packed_bytes()):
            return CYCONV_NO_MEMORY
        status = self.pack(packed.data, weight, threads)
        if status == CYCONV_OK:
            status = self.forward_packed(y, x, packed.data, bias, threads)
        give(&packed)
        return status

    cdef Py_ssize_t packed_bytes(self) noexcept nogil:
        return self.ahead.packed_size * self.itemsize

    cdef int pack(self, void* packed, const void* weight, int threads) noexcept nogil:
        if wrong(packed, self.itemsize) or wrong(weight, self.itemsize):
            return CYCONV_BAD_POINTER
        return told(self.ahead.order(packed, weight, team(threads, 4.0 * self.ahead.packed_size)))

    cdef int forward_packed(self, void* y, const void* x, const void* packed, const void* bias,
                            int threads) noexcept nogil:
        if self.batch == 0:
            return CYCONV_OK
        if (wrong(y, self.itemsize) or wrong(x, self.itemsize) or wrong(packed, self.itemsize)
                or misplaced(bias, self.itemsize)):
            return CYCONV_BAD_POINTER
        return told(self.ahead.execute(y, x, packed, bias, self.ahead_images, team(threads, self.work)))

    cdef int input_gradient(self, void* dx, const void* dy, const void* weight, int threads) noexcept nogil:
        cdef Py_ssize_t packed_bytes = self.back.packed_size * self.itemsize
        cdef Py_ssize_t turned_bytes = self.weights * self.itemsize if self.mirrored else 0
        cdef Block memory
        cdef int status
        if self.batch == 0:
            return CYCONV_OK
        if wrong(dx, self.itemsize) or wrong(dy, self.itemsize) or wrong(weight, self.itemsize):
            return CYCONV_BAD_POINTER
        packed_bytes = (packed_bytes + 63) // 64 * 64
        if borrow(&memory, packed_bytes + turned_bytes):
            return CYCONV_NO_MEMORY
        if self.mirrored:
            turn(<char*>memory.data + packed_bytes, <const char*>weight, self.weights, self.plane, self.itemsize)
            weight = <char*>memory.data + packed_bytes
        status = self.back.order(memory.data, weight, team(threads, 8.0 * self.back.packed_size))
        if status == 0:
            status = self.back.execute(dx, dy, memory.data, NULL, self.back_images, team(threads, self.work))
        give(&memory)
        return told(status)

    cdef int weight_gradient(self, void* dw, void* db, const void* dy, const void* x, int threads) noexcept nogil:
        if wrong(dw, self.itemsize) or misplaced(db, self.itemsize):
            return CYCONV_BAD_POINTER
        if self.batch > 0 and (wrong(dy, self.itemsize) or wrong(x, self.itemsize)):
            return CYCONV_BAD_POINTER
        return told(self.sums.execute(dw, db, dy, x, self.sums_images, team(threads, self.work)))


cdef void turn(char* to, const char* weight, Py_ssize_t weights, Py_ssize_t plane, Py_ssize_t itemsize) noexcept nogil:
    """The taps of each plane of a kernel in reverse order."""
    cdef Py_ssize_t first, i
    for first from 0 <= first < weights by plane:
        for i in range(plane):
            memcpy(to + (first + i) * itemsize, weight + (first + plane - 1 - i) * itemsize, itemsize)


cdef ConvPlan conv_plan(const ConvGeometry* geometry):
    cdef const ConvGeometry* g = geometry
    cdef _ConvPlan plan
    cdef int i, rank
    if g == NULL:
        raise ValueError("conv_plan: the geometry is NULL")
    rank = <int>g.rank if 0 < g.rank <= 3 else 0
    walks = _raw.conv_walks(
        rank=g.rank, batch=g.batch, in_channels=g.in_channels, out_channels=g.out_channels, groups=g.groups,
        input=tuple([g.input[i] for i in range(rank)]), kernel=tuple([g.kernel[i] for i in range(rank)]),
        stride=tuple([g.stride[i] for i in range(rank)]), dilation=tuple([g.dilation[i] for i in range(rank)]),
        padding=tuple([(g.padding[i][0], g.padding[i][1]) for i in range(rank)]), dtype=g.dtype,
        channels_last=g.channels_last, algorithm=g.algorithm, keep_weights=g.keep_weights,
    )
    plan = _ConvPlan.__new__(_ConvPlan, MAKER)
    plan.geometry, plan.algorithm, plan.mirrored = walks.geometry, walks.algorithm, walks.mirrored
    plan.ahead_images, plan.ahead = walks.forward
    plan.back_images, plan.back = walks.input_gradient
    plan.sums_images, plan.sums = walks.weight_gradient
    plan.rank, plan.batch, plan.itemsize = g.rank, g.batch, 8 if g.dtype == CYCONV_FLOAT64 else 4
    plan.work = 2.0 * walks.geometry.macs
    plan.weights, plan.plane = g.out_channels * (g.in_channels // g.groups), 1
    for i in range(rank):
        plan.size[i] = walks.geometry.output[i]
        plan.weights *= g.kernel[i]
        if i >= rank - 2:
            plan.plane *= g.kernel[i]
    return plan


# -------------------------------------------------------------------------------------------------------------- pooling

cdef PoolGeometry pool_geometry(Py_ssize_t rank) noexcept nogil:
    cdef PoolGeometry g
    cdef int i
    memset(&g, 0, sizeof(g))
    g.rank, g.batch, g.channels, g.count_include_pad = rank, 1, 1, 1
    for i in range(3):
        g.dilation[i] = 1
    return g


cdef class PoolPlan:
    def __cinit__(self, maker=None, *_, **__):
        if maker is not MAKER:
            raise TypeError("PoolPlan: plans are made by pool_plan, which takes a geometry")

    def __reduce__(self):
        raise TypeError("PoolPlan: plans cannot be copied or pickled; pool_plan makes one anew")

    cdef int output(self, Py_ssize_t* size) noexcept nogil:
        return CYCONV_BAD_GEOMETRY

    cdef int forward(self, void* y, int64_t* indices, const void* x, int threads) noexcept nogil:
        return CYCONV_BAD_GEOMETRY

    cdef int backward(self, void* dx, const void* dy, const void* x, const int64_t* indices,
                      int threads) noexcept nogil:
        return CYCONV_BAD_GEOMETRY


@cython.final
@cython.auto_pickle(False)
@cython.no_gc_clear
cdef class _PoolPlan(PoolPlan):
    cdef Pooling ahead, finder, back, scatter  # without indices, with them; the gradient likewise
    cdef Py_ssize_t rank, batch, channels, itemsize
    cdef Py_ssize_t size[3]
    cdef bint average, last
    cdef double work
    cdef object geometry

    @property
    def output_shape(self):
        return (self.batch, self.channels, *[self.size[i] for i in range(self.rank)])

    cdef int output(self, Py_ssize_t* size) noexcept nogil:
        if wrong(size, sizeof(Py_ssize_t)):
            return CYCONV_BAD_POINTER
        memcpy(size, self.size, self.rank * sizeof(Py_ssize_t))
        return CYCONV_OK

    cdef int forward(self, void* y, int64_t* indices, const void* x, int threads) noexcept nogil:
        if self.batch * self.channels == 0:
            return CYCONV_OK
        if wrong(y, self.itemsize) or wrong(x, self.itemsize) or misplaced(indices, sizeof(int64_t)):
            return CYCONV_BAD_POINTER
        if self.average and indices != NULL:
            return CYCONV_BAD_POINTER
        threads = team(threads, self.work)
        if self.average:
            return told(self.ahead.average_at(self.itemsize == 4, y, x, self.batch, self.channels, self.last, threads))
        if indices == NULL:
            return told(self.ahead.maximum_at(self.itemsize == 4, y, NULL, x, self.batch, self.channels, self.last,
                                              threads))
        return told(self.finder.maximum_at(self.itemsize == 4, y, indices, x, self.batch, self.channels, self.last,
                                           threads))

    cdef int backward(self, void* dx, const void* dy, const void* x, const int64_t* indices,
                      int threads) noexcept nogil:
        if self.batch * self.channels == 0:
            return CYCONV_OK
        if wrong(dx, self.itemsize) or wrong(dy, self.itemsize) or misplaced(indices, sizeof(int64_t)):
            return CYCONV_BAD_POINTER
        if not self.average and indices == NULL and wrong(x, self.itemsize):
            return CYCONV_BAD_POINTER
        threads = team(threads, self.work)
        if self.average:
            return told(self.back.average_backward_at(self.itemsize == 4, dx, dy, self.batch, self.channels, self.last,
                                                      threads))
        if indices == NULL:
            return told(self.back.maximum_backward_at(self.itemsize == 4, dx, dy, x, NULL, self.batch, self.channels,
                                                      self.last, threads))
        return told(self.scatter.maximum_backward_at(self.itemsize == 4, dx, dy, NULL, indices, self.batch,
                                                     self.channels, self.last, threads))


cdef PoolPlan pool_plan(const PoolGeometry* geometry):
    cdef const PoolGeometry* g = geometry
    cdef _PoolPlan plan
    cdef int i, rank
    if g == NULL:
        raise ValueError("pool_plan: the geometry is NULL")
    rank = <int>g.rank if 0 < g.rank <= 3 else 0
    walk = _raw.pool_walk(
        rank=g.rank, batch=g.batch, channels=g.channels, input=tuple([g.input[i] for i in range(rank)]),
        kernel=tuple([g.kernel[i] for i in range(rank)]), stride=tuple([g.stride[i] for i in range(rank)]),
        dilation=tuple([g.dilation[i] for i in range(rank)]),
        padding=tuple([(g.padding[i][0], g.padding[i][1]) for i in range(rank)]), ceil_mode=g.ceil_mode, kind=g.kind,
        count_include_pad=g.count_include_pad, divisor_override=g.divisor_override, dtype=g.dtype,
        channels_last=g.channels_last,
    )
    plan = _PoolPlan.__new__(_PoolPlan, MAKER)
    plan.geometry, plan.work = walk.geometry, walk.work
    plan.ahead, plan.finder, plan.back, plan.scatter = walk.kernels
    plan.rank, plan.batch, plan.channels = g.rank, g.batch, g.channels
    plan.average, plan.last, plan.itemsize = g.kind == CYCONV_AVERAGE, g.channels_last, 8 if g.dtype else 4
    for i in range(rank):
        plan.size[i] = walk.geometry.output[len(walk.geometry.output) - rank + i]
    return plan


# -------------------------------------------------------------------------------------- plans of geometries seen before

DEF SETS = 128
DEF WAYS = 4
DEF FIELDS = 32

cdef struct Key:
    Py_ssize_t kind  # 1: convolution, 2: pooling; 0: none
    Py_ssize_t epoch  # of the settings
    Py_ssize_t fields[FIELDS]  # the geometry

cdef struct Entry:
    Key key
    PyObject* plan
    Py_ssize_t users  # callers that compute with it: it must not go away
    Py_ssize_t asked  # when it was asked for last

cdef Entry table[SETS][WAYS]
cdef Py_ssize_t clock = 0
memset(table, 0, sizeof(table))


cdef inline Entry* set_of(const Key* key) noexcept nogil:
    cdef uint64_t hash = 14695981039346656037u
    cdef const Py_ssize_t* word = <const Py_ssize_t*>key
    cdef Py_ssize_t i
    for i in range(<Py_ssize_t>(sizeof(Key) // sizeof(Py_ssize_t))):
        hash = (hash ^ <uint64_t>word[i]) * 1099511628211u
    return table[(hash >> 32) % SETS]


cdef Entry* found(const Key* key) noexcept nogil:
    """The entry of a key, with one more user; NULL where there is none."""
    global clock
    cdef Entry* ways = set_of(key)
    cdef Entry* entry = NULL
    cdef int i
    lock_take()
    for i in range(WAYS):
        if ways[i].plan != NULL and memcmp(&ways[i].key, key, sizeof(Key)) == 0:
            entry = &ways[i]
            clock += 1
            entry.users += 1
            entry.asked = clock
            break
    lock_give()
    return entry


cdef Entry* put(const Key* key, object plan) noexcept:
    """Enter a plan, in the place of the one of its set that was not asked for longest; NULL where all are in use."""
    cdef Entry* ways = set_of(key)
    cdef Entry* entry = NULL
    cdef PyObject* before = NULL
    cdef int i
    lock_take()
    for i in range(WAYS):
        if ways[i].users == 0 and (entry == NULL or ways[i].asked < entry.asked):
            entry = &ways[i]
    if entry != NULL:
        before = entry.plan
        Py_INCREF(plan)
        entry.key, entry.plan, entry.users = key[0], <PyObject*>plan, 0
    lock_give()
    if before != NULL:
        Py_DECREF(<object>before)
    return found(key) if entry != NULL else NULL


cdef Entry* made(const Key* key, int* status, bint known) noexcept with gil:
    """Plan a geometry and enter it; NULL and a status where that cannot be. known: Python's thread, before this."""
    cdef Entry* entry = NULL
    try:
        if key.kind == 1:
            plan = conv_plan(<const ConvGeometry*>key.fields)
        else:
            plan = pool_plan(<const PoolGeometry*>key.fields)
        # Where threads use more plans of one set at a time than it holds, one must wait.
        while entry == NULL:
            entry = put(key, plan)
            if entry == NULL:
                with nogil:
                    sched_yield()
    except MemoryError:
        status[0] = CYCONV_NO_MEMORY
    except (TypeError, ValueError):
        status[0] = CYCONV_BAD_GEOMETRY
    except BaseException as error:
        # Of a signal's handler, most likely. The caller cannot pass it on, and it must not be lost.
        status[0] = CYCONV_INTERRUPTED
        raise_later(error, known)
    return entry


def _nobody_computes():
    """A child of fork has one thread, its main one, and that is not computing."""
    global main_thread
    cdef int i, j
    main_thread = PyThread_get_thread_ident()
    for i in range(SETS):
        for j in range(WAYS):
            table[i][j].users = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_nobody_computes)


cdef inline void leave(Entry* entry) noexcept nogil:
    lock_take()
    entry.users -= 1
    lock_give()


cdef inline Entry* plan_of(Py_ssize_t kind, const void* geometry, size_t nbytes, int* status) noexcept nogil:
    cdef Key key
    cdef Entry* entry
    cdef Py_ssize_t i
    cdef Py_ssize_t* sizes = key.fields + (5 if kind == 1 else 3)  # input, kernel, stride, dilation, padding
    status[0] = CYCONV_BAD_GEOMETRY
    if geometry == NULL:
        return NULL
    memset(&key, 0, sizeof(key))
    key.kind, key.epoch = kind, epoch
    memcpy(key.fields, geometry, nbytes)
    for i in range(max(key.fields[0], 0), 3):  # what stands behind the rank counts for nothing
        sizes[i] = sizes[3 + i] = sizes[6 + i] = sizes[9 + i] = sizes[12 + 2 * i] = sizes[13 + 2 * i] = 0
    entry = found(&key)
    return entry if entry != NULL else made(&key, status, PyGILState_GetThisThreadState() != NULL)


cdef inline Entry* conv_entry(const ConvGeometry* geometry, int* status) noexcept nogil:
    return plan_of(1, geometry, sizeof(ConvGeometry), status)


cdef inline Entry* pool_entry(const PoolGeometry* geometry, int* status) noexcept nogil:
    return plan_of(2, geometry, sizeof(PoolGeometry), status)


cdef int conv_output(const ConvGeometry* geometry, Py_ssize_t* size) noexcept nogil:
    cdef int status
    cdef Entry* entry = conv_entry(geometry, &status)
    if entry != NULL:
        status = (<ConvPlan>entry.plan).output(size)
        leave(entry)
    return status


cdef int conv_forward(const ConvGeometry* geometry, void* y, const void* x, const void* weight, const void* bias,
                      int threads) noexcept nogil:
    cdef int status
    cdef Entry* entry = conv_entry(geometry, &status)
    if entry != NULL:
        status = (<ConvPlan>entry.plan).forward(y, x, weight, bias, threads)
        leave(entry)
    return status


cdef int conv_input_gradient(const ConvGeometry* geometry, void* dx, const void* dy, const void* weight,
                             int threads) noexcept nogil:
    cdef int status
    cdef Entry* entry = conv_entry(geometry, &status)
    if entry != NULL:
        status = (<ConvPlan>entry.plan).input_gradient(dx, dy, weight, threads)
        leave(entry)
    return status


cdef int conv_weight_gradient(const ConvGeometry* geometry, void* dw, void* db, const void* dy, const void* x,
                              int threads) noexcept nogil:
    cdef int status
    cdef Entry* entry = conv_entry(geometry, &status)
    if entry != NULL:
        status = (<ConvPlan>entry.plan).weight_gradient(dw, db, dy, x, threads)
        leave(entry)
    return status


cdef int pool_output(const PoolGeometry* geometry, Py_ssize_t* size) noexcept nogil:
    cdef int status
    cdef Entry* entry = pool_entry(geometry, &status)
    if entry != NULL:
        status = (<PoolPlan>entry.plan).output(size)
        leave(entry)
    return status


cdef int pool_forward(const PoolGeometry* geometry, void* y, int64_t* indices, const void* x,
                      int threads) noexcept nogil:
    cdef int status
    cdef Entry* entry = pool_entry(geometry, &status)
    if entry != NULL:
        status = (<PoolPlan>entry.plan).forward(y, indices, x, threads)
        leave(entry)
    return status


cdef int pool_backward(const PoolGeometry* geometry, void* dx, const void* dy, const void* x, const int64_t* indices,
                       int threads) noexcept nogil:
    cdef int status
    cdef Entry* entry = pool_entry(geometry, &status)
    if entry != NULL:
        status = (<PoolPlan>entry.plan).backward(dx, dy, x, indices, threads)
        leave(entry)
    return status
