"""Interpolation along up to three axes by tables: each output is a weighted sum of a few inputs along each axis.

A *line* is a row of a plane (NCHW), or a row of pixels with all their channels (channels-last). Where lines become
more, they are joined along themselves first, each once, and kept in a ring until the output lines that need them are
written; where they become fewer, across first; channels-last pixels of two taps along the line are joined along all
axes at once. The gradient is the same with the tables transposed. In planes, joining along a line means to pick
elements from one or two vectors by lanes that the tables hold; where outputs lie too far apart for that, elements are
joined one by one.

A *task* is some output lines, cut by geometry alone. No two tasks write the same element.
"""

from cython.parallel cimport prange, threadid
from libc.stdint cimport int32_t, uint64_t
from libc.string cimport memcpy, memset

cimport numpy as cnp

from cyconv.kernels._workspace cimport Workspace, take
from cyconv.kernels.simd cimport LANES_f32, LANES_f64, cold, flush_denormals, real, restore_denormals

cnp.import_array()

ctypedef Py_ssize_t index

cdef extern from "resize.h" nogil:
    enum:
        CYCONV_PICKS

    void join_lines_f32(float* out, const float* out_end, const float* const* row, const float* weight, index rows,
                        index n) noexcept
    void join_lines_f64(double* out, const double* out_end, const double* const* row, const double* weight, index rows,
                        index n) noexcept
    void halve_lines_f32(float* out, const float* const* row, const float* weight, index rows, float factor,
                         index n) noexcept
    void halve_lines_f64(double* out, const double* const* row, const double* weight, index rows, double factor,
                         index n) noexcept
    void join_pixel_row_f32(float* out, const float* out_end, const float* x, const float* x_end, index pixels,
                            const int32_t* count, const int32_t* place, const float* weight, index taps, int even,
                            index n) noexcept
    void join_pixel_row_f64(double* out, const double* out_end, const double* x, const double* x_end, index pixels,
                            const int32_t* count, const int32_t* place, const double* weight, index taps, int even,
                            index n) noexcept
    void copy_pixel_row_f32(float* out, const float* out_end, const float* x, const float* x_end, index pixels,
                            const int32_t* place, index n) noexcept
    void copy_pixel_row_f64(double* out, const double* out_end, const double* x, const double* x_end, index pixels,
                            const int32_t* place, index n) noexcept
    void join_pixels_f32(float* out, const float* out_end, const float* const* line, const float* line_weight,
                         index lines, const float* x_end, index pixels, const int32_t* place, const float* weight,
                         index taps, index n) noexcept
    void join_pixels_f64(double* out, const double* out_end, const double* const* line, const double* line_weight,
                         index lines, const double* x_end, index pixels, const int32_t* place, const double* weight,
                         index taps, index n) noexcept
    void join_row_f32(float* out, const float* x, index n, const int32_t* count, const int32_t* place,
                      const float* weight, index taps) noexcept
    void join_row_f64(double* out, const double* x, index n, const int32_t* count, const int32_t* place,
                      const double* weight, index taps) noexcept
    void copy_places_f32(float* out, const float* x, index n, const int32_t* place) noexcept
    void copy_places_f64(double* out, const double* x, index n, const int32_t* place) noexcept
    void pick_row_f32(float* out, const float* out_end, const float* x, index n, const int32_t* base,
                      const float* lane, const float* weight, index many, int two, int moves) noexcept
    void pick_row_f64(double* out, const double* out_end, const double* x, index n, const int32_t* base,
                      const double* lane, const double* weight, index many, int two, int moves) noexcept

# Elements of a task: some microseconds of work.
cdef enum:
    TASK = 32768
    # A longer ring would not stay near the processor.
    RING_BYTES = 16 << 20


def lanes(int itemsize):
    """Elements of a vector of which a table of lanes may pick; 0 where the instruction set cannot pick."""
    if not CYCONV_PICKS:
        return 0
    return LANES_f32 if itemsize == 4 else LANES_f64


def halves():
    """Whether a lane of a double must hold the places of its two halves: AVX2 picks 4 bytes at a time."""
    return LANES_f64 == 4


cdef struct Axis:
    index inputs, outputs, taps
    bint same    # every output is the input of its place
    bint moves   # every output is one input, as it is
    bint even    # every output has `taps` inputs
    bint halves  # every output has two inputs of its own, all with the weight `factor`
    double factor
    index reach  # between the first and the last input of an output, both included
    const int32_t* count
    const int32_t* place
    const void* weight


# The last axis of planes, by vectors: see resize.h.
cdef struct Picks:
    bint possible
    bint two
    index taps
    index readable  # elements of a line that vectors may load
    const int32_t* base
    const void* lane
    const void* weight


cdef struct Call:
    index channels
    bint last
    index line_in, line_out          # elements
    index lines                      # output lines of one plane or image
    index task_lines, total_lines
    bint at_once      # channels-last pixels are joined along all axes in one go
    bint along_first
    index ring_depth, ring_rows, pitch  # slots of the ring, powers of two; elements of one


cdef class Resize:
    """Interpolation of one geometry and one dtype, ready to run in either memory order."""

    cdef Axis axes[3]
    cdef Picks picks
    cdef object tables  # keeps the arrays alive that the pointers above point into

    def __init__(self, tables, picks):
        """``tables``: for depth, height and width (inputs, count, place, weight); ``picks``: None or (two, readable,
        base, lane, weight), of which lane has the bits of integers."""
        cdef Axis* axis
        cdef cnp.ndarray count, place, weight, base, lane, factor
        cdef index q
        cdef int i
        cold()
        self.tables = (tables, picks)
        for i in range(3):
            inputs, count, place, weight = tables[i]
            axis = &self.axes[i]
            axis.inputs = inputs
            axis.outputs = place.shape[0]
            axis.taps = place.shape[1]
            axis.count = <const int32_t*>cnp.PyArray_DATA(count)
            axis.place = <const int32_t*>cnp.PyArray_DATA(place)
            axis.weight = cnp.PyArray_DATA(weight)
            axis.even = bool((count == place.shape[1]).all())
            axis.moves = axis.even and axis.taps == 1 and bool((weight == 1).all())
            axis.same = axis.moves and axis.inputs == axis.outputs and all(
                axis.place[q] == q for q in range(axis.outputs))
            axis.halves = axis.even and axis.taps == 2 and axis.inputs == 2 * axis.outputs and all(
                axis.place[q] == q for q in range(axis.inputs)) and bool((weight == weight.flat[0]).all())
            axis.factor = weight.flat[0] if axis.halves else 0
            axis.reach = int((place.max(1) - place.min(1)).max()) + 1
        self.picks.possible = picks is not None
        if picks is not None:
            two, readable, base, lane, factor = picks
            self.picks.two = two
            self.picks.readable = readable
            self.picks.taps = base.shape[1]
            self.picks.base = <const int32_t*>cnp.PyArray_DATA(base)
            self.picks.lane = cnp.PyArray_DATA(lane)
            self.picks.weight = cnp.PyArray_DATA(factor)

    def run(self, cnp.ndarray out, cnp.ndarray x, index images, index channels, bint last, int threads):
        """out = x, interpolated."""
        if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT:
            resize[float](self, <float*>cnp.PyArray_DATA(out), <const float*>cnp.PyArray_DATA(x), images, channels,
                          last, threads)
        else:
            resize[double](self, <double*>cnp.PyArray_DATA(out), <const double*>cnp.PyArray_DATA(x), images, channels,
                           last, threads)


cdef inline index power_of_two(index n) noexcept nogil:
    """The first that is not below n: a division for each line would be felt."""
    cdef index power = 1
    while power < n:
        power *= 2
    return power


cdef int resize(Resize r, real* out, const real* x, index images, index channels, bint last, int threads) except -1:
    cdef Call c
    cdef index planes = images if last else images * channels, pixel = channels if last else 1
    cdef index tasks, i, per_thread, pieces, vector = 64 // sizeof(real)
    cdef Workspace memory
    cdef char* private
    c.channels, c.last = channels, last
    c.line_in, c.line_out = r.axes[2].inputs * pixel, r.axes[2].outputs * pixel
    c.lines = r.axes[0].outputs * r.axes[1].outputs
    c.total_lines = planes * c.lines
    if c.total_lines == 0 or c.line_out == 0:
        return 0
    # Several whole planes, or even parts of one.
    if c.lines * c.line_out <= TASK:
        c.task_lines = TASK // (c.lines * c.line_out) * c.lines
    else:
        pieces = min(c.lines, (c.lines * c.line_out + TASK - 1) // TASK)
        c.task_lines = (c.lines + pieces - 1) // pieces
    tasks = (c.total_lines + c.task_lines - 1) // c.task_lines
    c.at_once = (last and r.axes[0].even and r.axes[1].even and r.axes[2].even and r.axes[2].taps == 2
                 and r.axes[0].taps * r.axes[1].taps in (1, 2, 4))
    c.ring_depth = power_of_two(min(r.axes[0].reach, r.axes[0].inputs))
    c.ring_rows = power_of_two(min(r.axes[1].reach, r.axes[1].inputs))
    # Behind each line of the ring, and of the buffers, room for vectors that cross its end.
    c.pitch = (max(c.line_in, c.line_out) + 3 * vector) // vector * vector
    c.along_first = (not c.at_once and not r.axes[2].same and r.axes[1].outputs > r.axes[1].inputs
                     and c.ring_depth * c.ring_rows * c.pitch * <index>sizeof(real) <= RING_BYTES)
    per_thread = (c.ring_depth * c.ring_rows if c.along_first else 1) + 1
    per_thread = per_thread * c.pitch * sizeof(real)
    # Tags of the ring, pointers and weights of the lines that are joined.
    per_thread += (c.ring_depth * c.ring_rows + 2 * r.axes[0].taps * r.axes[1].taps) * 8
    per_thread = (per_thread + 4095) // 4096 * 4096
    if threads > tasks:
        threads = <int>tasks
    memory = take(per_thread * threads)
    private = <char*>memory.data
    with nogil:
        if threads == 1:
            for i in range(tasks):
                run_task(r, &c, out, x, planes, private, i)
        else:
            for i in prange(tasks, schedule="static", num_threads=threads):
                run_task(r, &c, out, x, planes, private + threadid() * per_thread, i)
    return 0


cdef void run_task(Resize r, const Call* c, real* out, const real* x, index planes, char* private,
                   index task) noexcept nogil:
    cdef index first = task * c.task_lines, end = min(first + c.task_lines, c.total_lines)
    cdef const real* x_end = x + planes * r.axes[0].inputs * r.axes[1].inputs * c.line_in
    cdef bint moves = r.axes[0].moves and r.axes[1].moves and not c.at_once
    cdef uint64_t mode = 0
    if not (moves and r.axes[2].moves):  # what is only moved keeps its denormals
        mode = flush_denormals()
    if moves:
        moved_lines(r, c, out, x, x_end, <real*>private, first, end)
    else:
        joined_lines(r, c, out, x, x_end, <real*>private, first, end)
    if not (moves and r.axes[2].moves):
        restore_denormals(mode)


cdef inline void along(Resize r, const Call* c, real* out, const real* out_end, const real* line,
                       const real* x_end, real* spare) noexcept nogil:
    """One line: out = line, interpolated along itself. ``spare`` takes a copy where vectors would cross ``x_end``."""
    cdef const Axis* a = &r.axes[2]
    cdef const Picks* p = &r.picks
    if a.same:
        memcpy(out, line, c.line_in * sizeof(real))
    elif c.last:
        if a.moves:
            if real is float:
                copy_pixel_row_f32(out, out_end, line, x_end, a.outputs, a.place, c.channels)
            else:
                copy_pixel_row_f64(out, out_end, line, x_end, a.outputs, a.place, c.channels)
        elif real is float:
            join_pixel_row_f32(out, out_end, line, x_end, a.outputs, a.count, a.place, <const float*>a.weight, a.taps,
                               a.even, c.channels)
        else:
            join_pixel_row_f64(out, out_end, line, x_end, a.outputs, a.count, a.place, <const double*>a.weight, a.taps,
                               a.even, c.channels)
    elif p.possible:
        if line + p.readable > x_end:
            memcpy(spare, line, c.line_in * sizeof(real))
            line = spare
        if real is float:
            pick_row_f32(out, out_end, line, a.outputs, p.base, <const float*>p.lane, <const float*>p.weight, p.taps,
                         p.two, a.moves)
        else:
            pick_row_f64(out, out_end, line, a.outputs, p.base, <const double*>p.lane, <const double*>p.weight, p.taps,
                         p.two, a.moves)
    elif a.moves:
        if real is float:
            copy_places_f32(out, line, a.outputs, a.place)
        else:
            copy_places_f64(out, line, a.outputs, a.place)
    elif real is float:
        join_row_f32(out, line, a.outputs, a.count, a.place, <const float*>a.weight, a.taps)
    else:
        join_row_f64(out, line, a.outputs, a.count, a.place, <const double*>a.weight, a.taps)


cdef void moved_lines(Resize r, const Call* c, real* out, const real* x, const real* x_end, real* spare, index first,
                      index end) noexcept nogil:
    """Each output line comes from one input line; one that comes from the same as the line before is a copy of it.

    Channels-last the input's line is nearer to the processor than the longer line before.
    """
    cdef index rows = r.axes[1].outputs, i, plane, o, p, source, before = -1
    cdef real* to
    cdef const real* out_end = out + end * c.line_out
    for i in range(first, end):
        plane = i // c.lines
        o = i % c.lines // rows
        p = i % rows
        source = (plane * r.axes[0].inputs + r.axes[0].place[o]) * r.axes[1].inputs + r.axes[1].place[p]
        to = out + i * c.line_out
        if source == before and not c.last:
            memcpy(to, to - c.line_out, c.line_out * sizeof(real))
        else:
            along(r, c, to, out_end, x + source * c.line_in, x_end, spare)
        before = source


cdef void joined_lines(Resize r, const Call* c, real* out, const real* x, const real* x_end, real* memory, index first,
                       index end) noexcept nogil:
    """Each output line is joined from several: those of the ring, or of the input and then along itself."""
    cdef const Axis* depth = &r.axes[0]
    cdef const Axis* height = &r.axes[1]
    cdef index slots = c.ring_depth * c.ring_rows if c.along_first else 1
    cdef real* spare = memory + slots * c.pitch
    cdef index* tags = <index*>(spare + c.pitch)
    cdef const real** lines = <const real**>(tags + c.ring_depth * c.ring_rows)
    cdef real* weights = <real*>(lines + depth.taps * height.taps)
    cdef const real* out_end = out + end * c.line_out
    cdef const real* depth_weight = <const real*>depth.weight
    cdef const real* height_weight = <const real*>height.weight
    cdef index i, a, b, d, h, slot, source, many
    cdef index plane = first // c.lines, o = first % c.lines // height.outputs, p = first % height.outputs - 1
    cdef real factor
    cdef real* to
    for i in range(c.ring_depth * c.ring_rows):
        tags[i] = -1
    for i in range(first, end):
        p += 1
        if p == height.outputs:
            p = 0
            o += 1
            if o == depth.outputs:
                o = 0
                plane += 1
        to = out + i * c.line_out
        many = 0
        for a in range(depth.count[o]):
            d = depth.place[o * depth.taps + a]
            factor = depth_weight[o * depth.taps + a]
            for b in range(height.count[p]):
                h = height.place[p * height.taps + b]
                source = (plane * depth.inputs + d) * height.inputs + h
                weights[many] = factor * height_weight[p * height.taps + b]
                if c.along_first:
                    slot = (d & (c.ring_depth - 1)) * c.ring_rows + (h & (c.ring_rows - 1))
                    if tags[slot] != source:
                        along(r, c, memory + slot * c.pitch, <const real*>(memory + (slot + 1) * c.pitch),
                              x + source * c.line_in, x_end, spare)
                        tags[slot] = source
                    lines[many] = memory + slot * c.pitch
                else:
                    lines[many] = x + source * c.line_in
                many += 1
        if c.at_once:
            pixels_at_once(r, c, to, out_end, lines, weights, many, x_end)
        elif many == 0:
            memset(to, 0, c.line_out * sizeof(real))
        elif c.along_first or r.axes[2].same:
            across(to, out_end, lines, weights, many, c.line_out)
        elif r.axes[2].halves and not c.last and c.line_out >= 64 // <index>sizeof(real):  # all lanes of any processor
            halve(to, lines, weights, many, <real>r.axes[2].factor, c.line_out)
        else:
            across(memory, <const real*>spare, lines, weights, many, c.line_in)
            along(r, c, to, out_end, <const real*>memory, <const real*>spare, spare)


cdef inline void pixels_at_once(Resize r, const Call* c, real* out, const real* out_end, const real** lines,
                                const real* weights, index many, const real* x_end) noexcept nogil:
    cdef const Axis* a = &r.axes[2]
    if real is float:
        join_pixels_f32(out, out_end, lines, weights, many, x_end, a.outputs, a.place, <const float*>a.weight, a.taps,
                        c.channels)
    else:
        join_pixels_f64(out, out_end, lines, weights, many, x_end, a.outputs, a.place, <const double*>a.weight, a.taps,
                        c.channels)


cdef inline void halve(real* out, const real** lines, const real* weights, index many, real factor,
                       index n) noexcept nogil:
    if real is float:
        halve_lines_f32(out, lines, weights, many, factor, n)
    else:
        halve_lines_f64(out, lines, weights, many, factor, n)


cdef inline void across(real* out, const real* out_end, const real** lines, const real* weights, index many,
                        index n) noexcept nogil:
    if many == 1 and weights[0] == 1:
        memcpy(out, lines[0], n * sizeof(real))
    elif real is float:
        join_lines_f32(out, out_end, lines, weights, many, n)
    else:
        join_lines_f64(out, out_end, lines, weights, many, n)
