"""The windows of pooling along one axis, as tables of pixels by window and of windows by pixel.

Every kind of window is such a table: a kernel laid at every stride (padding clipped off, dilated), the unequal windows
of adaptive pooling. One- and two-dimensional pooling have axes of one pixel and one window before the others.
"""

from libc.stdint cimport int32_t

from cyconv.kernels._workspace cimport discard, zeroed
from cyconv.kernels.simd cimport cold, real

ctypedef Py_ssize_t index


cdef struct Axis:
    index length, windows  # pixels, windows
    index taps, stride, low, dilation
    # Of each window: its first pixel inside the input, how many there are (dilation apart), which tap meets the first,
    # and where tap 0 stands, inside the input or not
    int32_t* first
    int32_t* count
    int32_t* tap
    int32_t* start
    # Of each pixel: the first window that it belongs to, how many there are (window_step apart), and where in `met` the
    # taps begin by which it meets them
    int32_t* window
    int32_t* belongs
    int32_t* meets
    int32_t* met
    index window_step
    index most  # pixels of the largest window
    index crowd  # windows of the pixel that belongs to most
    index reach  # taps of the largest window, whether they meet a pixel or not
    index meetings  # pixels of all windows
    # Averages: one over the places of each window
    double* factor
    float* factor32


cdef inline void free_axis(Axis* a) noexcept:
    discard(a.first)
    discard(a.window)
    discard(a.met)
    discard(a.factor)
    discard(a.factor32)


cdef inline int allocate_axis(Axis* a) except -1:
    a.first = <int32_t*>zeroed(4 * a.windows, sizeof(int32_t))
    a.window = <int32_t*>zeroed(3 * a.length, sizeof(int32_t))
    a.factor = <double*>zeroed(a.windows, sizeof(double))
    # Whole vectors of them are read.
    a.factor32 = <float*>zeroed(a.windows, sizeof(float))
    if a.first == NULL or a.window == NULL or a.factor == NULL or a.factor32 == NULL:
        raise MemoryError("cyconv: no memory for the tables of a pooling layer")
    a.count, a.tap, a.start = a.first + a.windows, a.first + 2 * a.windows, a.first + 3 * a.windows
    a.belongs, a.meets = a.window + a.length, a.window + 2 * a.length
    return 0


cdef inline int find_met(Axis* a) except -1:
    """By which taps the pixels meet their windows: for gradients that are gathered by taps."""
    cdef index i, m, p, n = 0
    for i in range(a.length):
        a.meets[i] = <int32_t>n
        n += a.belongs[i]
    a.met = <int32_t*>zeroed(n + 1, sizeof(int32_t))
    if a.met == NULL:
        raise MemoryError("cyconv: no memory for the tables of a pooling layer")
    for i in range(a.length):
        p = a.window[i]
        for m in range(a.belongs[i]):
            a.met[a.meets[i] + m] = <int32_t>((i - a.start[p]) // a.dilation)
            p += a.window_step
    return 0


cdef inline index inside(index start, index low, index high, index taps, index dilation, index* first) noexcept nogil:
    """How many taps of a window that begins at ``start`` fall into low <= place < high; ``first``: the first one."""
    cdef index last
    first[0] = (low - start + dilation - 1) // dilation if start < low else 0
    last = min(taps, (high - start + dilation - 1) // dilation) if high > start else 0
    return max(last - first[0], 0)


cdef inline index inverse(index a, index n) noexcept nogil:
    """The number b with a b = 1 modulo n, where there is one."""
    cdef index old = a % n, rest = n, b = 1, c = 0, q, t
    while rest:
        q = old // rest
        t = old - q * rest
        old = rest
        rest = t
        t = b - q * c
        b = c
        c = t
    return (b % n + n) % n


cdef inline int regular_axis(Axis* a, index high, bint include_pad) except -1:
    """Tables of a kernel at every stride; ``length`` to ``dilation`` are set. Averages count the padding or do not."""
    cdef index p, i, tap, start, count, lowest, highest, g, r, factor, residue, tap_step
    if a.windows == 1:
        a.stride = 1
    if a.taps == 1:
        a.dilation = 1
    allocate_axis(a)
    for p in range(a.windows):
        start = p * a.stride - a.low
        count = inside(start, 0, a.length, a.taps, a.dilation, &tap)
        a.count[p] = <int32_t>count
        a.tap[p] = <int32_t>(tap if count else 0)
        a.first[p] = <int32_t>(start + tap * a.dilation if count else 0)
        a.start[p] = <int32_t>(start if count else 0)
        a.most = max(a.most, count)
        a.meetings += count
        if include_pad:
            count = inside(start, -a.low, a.length + high, a.taps, a.dilation, &tap)
        a.factor[p] = 1.0 / count if count else 0
    # Pixel i is tap r of window p where i + low = p stride + r dilation.
    g, r = a.stride, a.dilation
    while r:
        g, r = r, g % r
    a.window_step, tap_step = a.dilation // g, a.stride // g
    factor = inverse(tap_step, a.window_step) if a.window_step > 1 else 0
    for i in range(a.length):
        start = i + a.low
        highest = min(start // a.stride, a.windows - 1)
        lowest = start - (a.taps - 1) * a.dilation
        lowest = (lowest + a.stride - 1) // a.stride if lowest > 0 else 0
        if start % g:
            continue
        if a.window_step > 1:
            residue = (start // g) % a.window_step * factor % a.window_step
            lowest += (residue - lowest % a.window_step + a.window_step) % a.window_step
        if lowest <= highest:
            a.window[i] = <int32_t>lowest
            a.belongs[i] = <int32_t>((highest - lowest) // a.window_step + 1)
            a.crowd = max(a.crowd, <index>a.belongs[i])
    a.reach = a.taps
    return 0


cdef inline int adaptive_axis(Axis* a) except -1:
    """Window p of P over H pixels reaches from floor(p H / P) to ceil((p + 1) H / P)."""
    cdef index p, i, h = a.length, n = a.windows
    a.taps = a.stride = a.dilation = a.window_step = 1
    allocate_axis(a)
    for p in range(n):
        a.first[p] = a.start[p] = <int32_t>(p * h // n)
        a.count[p] = <int32_t>(((p + 1) * h + n - 1) // n - p * h // n)
        a.most = max(a.most, <index>a.count[p])
        a.meetings += a.count[p]
        a.factor[p] = 1.0 / a.count[p]
    for i in range(h):
        a.window[i] = <int32_t>(i * n // h)
        a.belongs[i] = <int32_t>(((i + 1) * n + h - 1) // h - i * n // h)
        a.crowd = max(a.crowd, <index>a.belongs[i])
    a.reach = a.most
    return 0


cdef inline void round_factors(Axis* a, double override) noexcept:
    """Factors in float32, too; ``override``: all of them, unless it is 0."""
    cdef index p
    for p in range(a.windows):
        if override != 0:
            a.factor[p] = override
        a.factor32[p] = <float>a.factor[p]


cdef inline const real* factors(const Axis* a, const real* like) noexcept nogil:
    return <const real*>a.factor32 if real is float else <const real*>a.factor


cdef inline int three_axes(Axis* axes, input, output, kernel, stride, padding, dilation, average) except -1:
    """Fill the axes from Python's numbers; adaptive windows where ``kernel`` is None.

    ``average``: None, or (whether padding counts, divisor or 0).
    """
    cdef Axis* a
    cdef index missing = 3 - len(input)
    cdef double override = 0
    cold()
    for i in range(3):
        a = &axes[i]
        a.length = a.windows = a.taps = a.stride = a.dilation = 1
        a.low = high = 0
        if i >= missing:
            a.length, a.windows = input[i - missing], output[i - missing]
        if kernel is None:
            adaptive_axis(a)
        else:
            if i >= missing:
                a.taps, a.stride, a.dilation = kernel[i - missing], stride[i - missing], dilation[i - missing]
                a.low, high = padding[i - missing]
            regular_axis(a, high, average is not None and average[0])
        if average is not None and average[1]:
            override = 1.0 / average[1] if i == 0 else 1.0
        round_factors(a, override)
    return 0
