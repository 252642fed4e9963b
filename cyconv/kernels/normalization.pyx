"""Normalisation: statistics of sets of elements, and what is made of the elements with them; and the gradients.

An array is `outer` blocks; a block is [samples][channels][space], or channels-last [samples x space][channels]. Each
block has a mean and a variance for each of `groups` groups of neighbouring channels: one block of all samples and as
many groups as channels is batch normalisation, a block for each sample is instance or group normalisation. What
differs between them is this shape, and nothing else.

A block that lies channels-last is a matrix of rows; where there are few channels several pixels make one row (*fold*),
so that vectors are full. Sums of a set are cut into chunks and those gathered into parts, by geometry alone; parts are
put together in their order. Where a set fits into the cache it is normalised right after its statistics
(*fused*), and memory is read once.

Functions that are written for both types take a pointer `typed` that is never followed: it says which.
"""

from cython.parallel cimport prange
from libc.math cimport INFINITY, sqrt
from libc.stdint cimport uint64_t, uintptr_t
from libc.string cimport memset

cimport numpy as cnp

from cyconv.kernels._workspace cimport Workspace, take
from cyconv.kernels.normalization_parts cimport (
    column_affine,
    column_gradient,
    column_moments,
    column_products,
    merge_moments,
    stretch_affine,
    stretch_gradient,
    stretch_moments,
    stretch_products,
)
from cyconv.kernels.simd cimport flush_denormals, real, restore_denormals

cnp.import_array()

ctypedef Py_ssize_t index

cdef enum:
    CHUNK_BYTES = 1 << 14  # of which one sum is taken: the second pass over it finds it in the first-level cache
    PART_CHUNKS = 16  # chunks that follow each other in one task
    FEW_ROWS = 32  # a chunk of columns has at least so many rows, as each chunk costs a merge for every column
    MANY_PARTS = 64  # of columns at most: each has sums of its own for all of them
    PIECE = 16384  # elements that a task normalises
    FULL_ROW = 256  # elements: shorter rows of columns are folded
    CACHED = 1 << 21  # bytes of a set of which much is still in a cache when its statistics are known


cdef struct Shape:
    index outer, samples, channels, space, groups
    bint last
    index members  # channels of a group
    index block  # elements of a block
    # Columns, for channels-last: rows of `width` = fold x channels elements, and `rest` elements behind them.
    index fold, width, rows, rest
    index chunk_rows, parts, part_chunks, chunks
    index pitch  # entries of a table for each block: one for each channel, or for each column


cdef struct Job:
    Shape s
    void* out  # y or dx
    const void* x
    const void* dy  # NULL: forward
    const double* weight  # of each channel, or NULL
    const double* bias
    double eps
    bint given  # mean and variance do not depend on x
    double floor  # y is not below it: 0 where a ReLU comes next, else -infinity
    double* mean  # [outer][groups]
    double* variance
    double* sums  # two for each channel (or column) of each block: of dy, of dy (x - center)
    double* partial
    void* scratch
    void* tables  # four of outer x pitch


cdef Shape lay_out(index outer, index samples, index channels, index space, index groups, bint last,
                   index itemsize) noexcept:
    cdef Shape s
    cdef index pixels = samples * space
    s.outer, s.samples, s.channels, s.space, s.groups, s.last = outer, samples, channels, space, groups, last
    s.members = channels // groups
    s.block = pixels * channels
    s.fold = 1
    if last and channels < FULL_ROW:
        s.fold = (FULL_ROW + channels - 1) // channels
        while s.fold * channels % 16 and s.fold < FULL_ROW:  # whole vectors, if it can be had
            s.fold += 1
        s.fold = max(<index>1, min(s.fold, pixels))
    s.width = s.fold * channels
    s.rows, s.rest = s.block // s.width, s.block % s.width
    s.chunk_rows = max(<index>FEW_ROWS, CHUNK_BYTES // (s.width * itemsize) // 8 * 8)
    s.chunks = (s.rows + s.chunk_rows - 1) // s.chunk_rows
    s.part_chunks = max(<index>1, (s.chunks + MANY_PARTS - 1) // MANY_PARTS)
    s.parts = (s.chunks + s.part_chunks - 1) // s.part_chunks
    s.pitch = s.width if last else channels
    return s


# ------------------------------------------------------------------------------------------------- sums of stretches


cdef struct Stretches:
    # `count` stretches of `length` elements, `step` apart, cut into chunks
    index count, step, length
    index pieces  # of a stretch, each a chunk; or
    index together  # stretches in a chunk
    index chunk, chunks, parts


cdef inline Stretches stretches(const Shape* s, index length, index itemsize) noexcept nogil:
    cdef Stretches t
    t.count, t.step, t.length = s.samples, s.channels * s.space, length
    t.chunk = CHUNK_BYTES // itemsize
    t.pieces = (length + t.chunk - 1) // t.chunk
    t.together = max(<index>1, t.chunk // length)
    t.chunks = t.count * t.pieces if t.together == 1 else (t.count + t.together - 1) // t.together
    t.parts = (t.chunks + PART_CHUNKS - 1) // PART_CHUNKS
    return t


cdef void part_of_stretches(const Stretches* t, const real* x, const real* dy, real center, index part,
                            double* found) noexcept nogil:
    """found: number of elements, then mean and sum of squares; with dy the sums of dy and dy (x - center)."""
    cdef index k, at, count, length
    cdef double mean = 0, square = 0
    found[0] = found[1] = found[2] = 0
    for k in range(part * PART_CHUNKS, min((part + 1) * PART_CHUNKS, t.chunks)):
        if t.together == 1:
            at = k // t.pieces * t.step + k % t.pieces * t.chunk
            count, length = 1, min(t.chunk, t.length - k % t.pieces * t.chunk)
        else:
            at = k * t.together * t.step
            count, length = min(t.together, t.count - k * t.together), t.length
        if dy != NULL:
            stretch_products(dy + at, x + at, count, t.step, length, center, found + 1, found + 2)
        else:
            stretch_moments(x + at, count, t.step, length, &mean, &square)
            merge_moments(found, found + 1, found + 2, <double>(count * length), mean, square)


cdef inline index set_length(const Job* j) noexcept nogil:
    """Elements side by side that have a sum in common: a group's in forward, a channel's in backward."""
    return j.s.space * (j.s.members if j.dy == NULL else 1)


cdef inline index sets_of(const Shape* s, bint forward) noexcept nogil:
    return s.groups if forward else s.channels


cdef void set_part(const Job* j, real* typed, index set, index part, double* found) noexcept nogil:
    """Part of the sums of a set; sets are counted through all blocks."""
    cdef const Shape* s = &j.s
    cdef Stretches t = stretches(s, set_length(j), sizeof(real))
    cdef index sets = sets_of(s, j.dy == NULL)
    cdef index at = set // sets * s.block + set % sets * t.length
    cdef real center = 0
    if j.dy != NULL:
        center = <real>j.mean[set // sets * s.groups + set % sets // s.members]
    part_of_stretches[real](&t, <const real*>j.x + at, NULL if j.dy == NULL else <const real*>j.dy + at, center, part,
                            found)


cdef void gather_set(const Job* j, index set, index parts, const double* found) noexcept nogil:
    """Mean and variance of a set from its parts, or its sums."""
    cdef double count = 0, a = 0, b = 0
    cdef index k
    for k in range(parts):
        if j.dy == NULL:
            merge_moments(&count, &a, &b, found[3 * k], found[3 * k + 1], found[3 * k + 2])
        else:
            a += found[3 * k + 1]
            b += found[3 * k + 2]
    if j.dy == NULL:
        j.mean[set] = a
        j.variance[set] = b / count
    else:
        j.sums[2 * set] = a
        j.sums[2 * set + 1] = b


# --------------------------------------------------------------------------------------------------- sums of columns


cdef void column_part(const Job* j, real* typed, index block, index part, double* found,
                      real* scratch) noexcept nogil:
    """Two rows of sums: mean and sum of squares of each column, or with dy the sums of dy and dy (x - center)."""
    cdef const Shape* s = &j.s
    cdef const real* x = <const real*>j.x + block * s.block
    cdef const real* dy = NULL if j.dy == NULL else <const real*>j.dy + block * s.block
    cdef index first = part * s.part_chunks * s.chunk_rows, k, row, rows
    cdef index end = min(s.rows, first + s.part_chunks * s.chunk_rows)
    memset(found, 0, 2 * s.width * sizeof(double))
    for k in range(part * s.part_chunks, min((part + 1) * s.part_chunks, s.chunks)):
        row = k * s.chunk_rows
        rows = min(s.chunk_rows, end - row)
        rows_part(j, dy, x, block, row, rows, s.width, row - first, found, scratch)
    if end == s.rows and s.rest:
        rows_part(j, dy, x, block, end, 1, s.rest, end - first, found, scratch)


cdef inline void rows_part(const Job* j, const real* dy, const real* x, index block, index row, index rows, index n,
                           index before, double* found, real* scratch) noexcept nogil:
    cdef index w = j.s.width, at = row * w
    cdef const real* center
    if dy == NULL:
        column_moments(found, found + w, <double>before, x + at, rows, w, n, scratch)
    else:
        center = <const real*>j.tables + block * j.s.pitch
        column_products(found, found + w, dy + at, x + at, center, rows, w, n, scratch)


cdef inline double rows_of_part(const Shape* s, index part, index column) noexcept nogil:
    cdef index size = s.part_chunks * s.chunk_rows
    cdef index rows = min(s.rows, (part + 1) * size) - part * size
    return <double>(rows + (1 if part == s.parts - 1 and column < s.rest else 0))


cdef void gather_block(const Job* j, index block, const double* found) noexcept nogil:
    """Mean and variance of each group from the parts of its columns, or the sums of each channel."""
    cdef const Shape* s = &j.s
    cdef index g, c, f, k, column
    cdef double count, a, b
    cdef const double* at
    if j.dy != NULL:
        for c in range(s.channels):
            a = b = 0
            for f in range(s.fold):
                for k in range(s.parts):
                    at = found + 2 * k * s.width + f * s.channels + c
                    a += at[0]
                    b += at[s.width]
            j.sums[2 * (block * s.channels + c)] = a
            j.sums[2 * (block * s.channels + c) + 1] = b
        return
    for g in range(s.groups):
        count = a = b = 0
        for c in range(g * s.members, (g + 1) * s.members):
            for f in range(s.fold):
                column = f * s.channels + c
                for k in range(s.parts):
                    at = found + 2 * k * s.width + column
                    merge_moments(&count, &a, &b, rows_of_part(s, k, column), at[0], at[s.width])
        j.mean[block * s.groups + g] = a
        j.variance[block * s.groups + g] = b / count


# ------------------------------------------------------------------------------------------------------------ tables


cdef void tabulate(const Job* j, real* typed, index block, index group) noexcept nogil:
    """What each channel of a group is multiplied by, and what is added.

    Forward: y = (x - center) scale + shift, where center is the mean rounded to the type of x, so that a large mean
    cancels before anything is multiplied. Backward: with n elements in the group, P the sum of dy weight and Q the
    sum of dy weight (x - mean) over them, and r = 1 / sqrt(variance + eps),

        dx = r (dy weight - P / n - (x - mean) r^2 Q / n) = a dy + b (x - center) + c.
    """
    cdef const Shape* s = &j.s
    cdef index size = s.outer * s.pitch, first = group * s.members, c, f, at
    cdef real* table = <real*>j.tables + block * s.pitch
    cdef double mean = j.mean[block * s.groups + group], weight, bias, n = <double>(s.samples * s.space * s.members)
    cdef double r = 1 / sqrt(j.variance[block * s.groups + group] + j.eps)
    cdef index head = head_of(j, block, sizeof(real)) if s.last else 0
    cdef real center = <real>mean
    cdef double away = mean - <double>center, p = 0, q = 0, b = 0, shift = 0
    cdef const double* sums = j.sums + 2 * block * s.channels if j.sums != NULL else NULL
    if sums != NULL and not j.given:
        for c in range(first, first + s.members):
            weight = 1 if j.weight == NULL else j.weight[c]
            p += weight * sums[2 * c]
            q += weight * (sums[2 * c + 1] - away * sums[2 * c])
        b = -r * r * r * q / n
        shift = -r * p / n - b * away
    for c in range(first, first + s.members):
        weight = 1 if j.weight == NULL else j.weight[c]
        bias = 0 if j.bias == NULL else j.bias[c]
        for f in range(s.pitch // s.channels):
            at = f * s.channels + c - head
            if at < 0:
                at += s.width
            table[at] = center
            table[size + at] = <real>(weight * r)
            if j.dy == NULL:
                table[2 * size + at] = <real>(bias - away * weight * r)
            else:
                table[2 * size + at] = <real>b
                table[3 * size + at] = <real>shift


# ------------------------------------------------------------------------------------------------------- application


cdef void apply_stretch(const Job* j, real* typed, index at, index n, index entry) noexcept nogil:
    """Normalise n elements of one channel, or differentiate; `entry`: the channel's place in the tables."""
    cdef index size = j.s.outer * j.s.pitch
    cdef const real* table = <const real*>j.tables + entry
    cdef const real* x = <const real*>j.x + at
    cdef real* out = <real*>j.out + at
    cdef const real* dy
    if j.dy == NULL:
        stretch_affine(out, x, n, table[0], table[size], table[2 * size], <real>j.floor)
    else:
        dy = <const real*>j.dy + at
        stretch_gradient(out, dy, x, n, table[0], table[size], table[2 * size], table[3 * size])


cdef void apply_rows(const Job* j, real* typed, index block, index first, index end) noexcept nogil:
    """The same for rows of columns, from `first` to before `end`; both ends of the block go with the outer rows.

    Rows begin where the output has a cache line's begin: a store across two lines costs two. The elements before
    are the `head`; the tables are turned by as many.
    """
    cdef index w = j.s.width, at = block * j.s.block, head = head_of(j, block, sizeof(real)), n, rows
    cdef bint final = end == j.s.rows
    if first == 0 and head:
        apply_columns(j, typed, block, at, 1, head, w - head)
    rows = (j.s.block - head) // w
    n = (j.s.block - head) % w
    end = min(end, rows)
    if first < end:
        apply_columns(j, typed, block, at + head + first * w, end - first, w, 0)
    if final and n:
        apply_columns(j, typed, block, at + head + rows * w, 1, n, 0)


cdef inline index head_of(const Job* j, index block, index itemsize) noexcept nogil:
    cdef index beyond = (<uintptr_t>j.out // itemsize + block * j.s.block) % (64 // itemsize)
    return min(j.s.block, (64 // itemsize - beyond) % (64 // itemsize)) % j.s.width


cdef void apply_columns(const Job* j, real* typed, index block, index at, index rows, index n,
                        index column) noexcept nogil:
    cdef index size = j.s.outer * j.s.pitch
    cdef const real* t = <const real*>j.tables + block * j.s.pitch + column
    cdef const real* x = <const real*>j.x + at
    cdef real* out = <real*>j.out + at
    cdef const real* dy
    if j.dy == NULL:
        column_affine(out, x, rows, n, t, t + size, t + 2 * size, <real>j.floor)
    else:
        dy = <const real*>j.dy + at
        column_gradient(out, dy, x, rows, n, t, t + size, t + 2 * size, t + 3 * size)


cdef inline index pieces_of(const Shape* s) noexcept nogil:
    """Tasks of the application: pieces of a stretch, or several stretches; groups of rows of one block."""
    cdef index stretches = s.outer * s.samples * s.channels, each
    if s.last:
        each = max(<index>8, PIECE // s.width // 8 * 8)
        return s.outer * max(<index>1, (s.rows + each - 1) // each)
    if s.space >= PIECE:
        return stretches * ((s.space + PIECE - 1) // PIECE)
    each = PIECE // s.space
    return (stretches + each - 1) // each


cdef void apply_piece(const Job* j, real* typed, index piece) noexcept nogil:
    cdef const Shape* s = &j.s
    cdef index each, per, k, first, end
    if s.last:
        each = max(<index>8, PIECE // s.width // 8 * 8)
        per = max(<index>1, (s.rows + each - 1) // each)
        k = piece // per
        first, end = piece % per * each, min(s.rows, (piece % per + 1) * each)
        apply_rows(j, typed, k, first, end)
    elif s.space >= PIECE:
        per = (s.space + PIECE - 1) // PIECE
        k = piece // per
        first = piece % per * PIECE
        apply_stretch(j, typed, k * s.space + first, min(<index>PIECE, s.space - first), entry_of(s, k))
    else:
        each = PIECE // s.space
        for k in range(piece * each, min((piece + 1) * each, s.outer * s.samples * s.channels)):
            apply_stretch(j, typed, k * s.space, s.space, entry_of(s, k))


cdef inline index entry_of(const Shape* s, index stretch) noexcept nogil:
    return stretch // (s.samples * s.channels) * s.channels + stretch % s.channels


# -------------------------------------------------------------------------------------------------------------- runs


cdef void whole_group(const Job* j, real* typed, index set, double* found) noexcept nogil:
    """Statistics of a group of a block in stretches, then the group itself, from the cache."""
    cdef const Shape* s = &j.s
    cdef index block = set // s.groups, group = set % s.groups, m, c, at
    cdef uint64_t mode = flush_denormals()
    if j.dy == NULL:
        set_from_stretches(j, typed, set, found)
    else:
        for c in range(group * s.members, (group + 1) * s.members):
            set_from_stretches(j, typed, block * s.channels + c, found)
    tabulate(j, typed, block, group)
    if j.out != NULL:
        for m in range(s.samples):
            for c in range(group * s.members, (group + 1) * s.members):
                at = ((block * s.samples + m) * s.channels + c) * s.space
                apply_stretch(j, typed, at, s.space, block * s.channels + c)
    restore_denormals(mode)


cdef void set_from_stretches(const Job* j, real* typed, index set, double* found) noexcept nogil:
    cdef Stretches t = stretches(&j.s, set_length(j), sizeof(real))
    cdef index k
    for k in range(t.parts):
        set_part(j, typed, set, k, found + 3 * k)
    gather_set(j, set, t.parts, found)


cdef void whole_block(const Job* j, real* typed, index block, double* found, real* scratch) noexcept nogil:
    """Statistics of a block in columns, then the block itself."""
    cdef const Shape* s = &j.s
    cdef index k
    cdef uint64_t mode = flush_denormals()
    if j.dy != NULL:
        centers(j, typed, block)
    for k in range(s.parts):
        column_part(j, typed, block, k, found + 2 * k * s.width, scratch)
    gather_block(j, block, found)
    for k in range(s.groups):
        tabulate(j, typed, block, k)
    if j.out != NULL:
        apply_rows(j, typed, block, 0, s.rows)
    restore_denormals(mode)


cdef void centers(const Job* j, real* typed, index block) noexcept nogil:
    """The first table alone, which the sums of products need."""
    cdef const Shape* s = &j.s
    cdef real* table = <real*>j.tables + block * s.pitch
    cdef index k
    for k in range(s.width):
        table[k] = <real>j.mean[block * s.groups + k % s.channels // s.members]


cdef void one_part(const Job* j, real* typed, index task, index parts, double* found, real* scratch) noexcept nogil:
    cdef uint64_t mode = flush_denormals()
    if j.s.last:
        column_part(j, typed, task // parts, task % parts, found + 2 * task * j.s.width, scratch + 3 * task * j.s.width)
    else:
        set_part(j, typed, task // parts, task % parts, found + 3 * task)
    restore_denormals(mode)


cdef void one_piece(const Job* j, real* typed, index piece) noexcept nogil:
    cdef uint64_t mode = flush_denormals()
    apply_piece(j, typed, piece)
    restore_denormals(mode)


cdef int run(Job* job, real* typed, int threads) except -1:
    """Statistics unless they are given (backward always needs its sums), tables, application."""
    cdef Job j = job[0]
    cdef Shape* s = &j.s
    cdef bint sums = j.sums != NULL if j.dy != NULL else not j.given
    cdef index sets = s.outer if s.last else s.outer * sets_of(s, j.dy == NULL)
    cdef Stretches t = stretches(s, set_length(&j), sizeof(real))
    cdef index parts = s.parts if s.last else t.parts
    cdef index units = s.outer if s.last else s.outer * s.groups  # that may be fused
    cdef index unit = (s.block if s.last else s.block // s.groups) * sizeof(real) * (1 if j.dy == NULL else 2)
    cdef bint fused = sums and unit <= CACHED and (units >= 8 or unit * units <= CACHED)
    cdef index each = 2 * s.width * parts if s.last else 3 * parts
    cdef Workspace tables = take(4 * s.outer * s.pitch * sizeof(real))
    cdef Workspace found = take((units * each if fused else sets * each) * sizeof(double))
    cdef Workspace scratch = take((units * 3 * s.width if fused else sets * parts * 3 * s.width) * sizeof(real)
                                  if s.last else 0)
    cdef double* partial = <double*>found.data
    cdef real* rows = <real*>scratch.data
    cdef index i, pieces = pieces_of(s)
    j.tables = tables.data
    with nogil:
        if fused:
            for i in prange(units, schedule="static", num_threads=threads):
                if j.s.last:
                    whole_block(&j, typed, i, partial + i * each, rows + i * 3 * j.s.width)
                else:
                    whole_group(&j, typed, i, partial + i * each)
        else:
            if sums:
                if s.last and j.dy != NULL:
                    for i in range(s.outer):
                        centers(&j, typed, i)
                for i in prange(sets * parts, schedule="static", num_threads=threads):
                    one_part(&j, typed, i, parts, partial, rows)
                for i in range(sets):
                    if s.last:
                        gather_block(&j, i, partial + i * each)
                    else:
                        gather_set(&j, i, parts, partial + i * each)
            if j.out != NULL:
                for i in range(s.outer * s.groups):
                    tabulate(&j, typed, i // s.groups, i % s.groups)
                for i in prange(pieces, schedule="static", num_threads=threads):
                    one_piece(&j, typed, i)
    return 0


cdef const double* doubles(array) except? NULL:
    return NULL if array is None else <const double*>cnp.PyArray_DATA(array)


def normalize(y, cnp.ndarray x, cnp.ndarray mean, cnp.ndarray variance, weight, bias, double eps, bint given,
              index outer, index samples, index channels, index space, index groups, bint last, int threads,
              bint rectified=False):
    """y = (x - mean) / sqrt(variance + eps) weight + bias; no y: the statistics alone; through a ReLU if ``rectified``.

    ``mean`` and ``variance``, (outer, groups), are written unless they are ``given``; they, ``weight`` and ``bias``,
    (channels,) or None, are float64. No size is 0.
    """
    cdef Job j
    cdef bint single = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT
    j.s = lay_out(outer, samples, channels, space, groups, last, 4 if single else 8)
    j.out = NULL if y is None else cnp.PyArray_DATA(y)
    j.x, j.dy, j.weight, j.bias = cnp.PyArray_DATA(x), NULL, doubles(weight), doubles(bias)
    j.eps, j.given, j.sums, j.floor = eps, given, NULL, -INFINITY
    j.mean, j.variance = <double*>cnp.PyArray_DATA(mean), <double*>cnp.PyArray_DATA(variance)
    if rectified:
        j.floor = 0
    if single:
        run[float](&j, NULL, threads)
    else:
        run[double](&j, NULL, threads)


def normalize_backward(dx, dweight, dbias, cnp.ndarray dy, cnp.ndarray x, cnp.ndarray mean, cnp.ndarray variance,
                       weight, double eps, bint given, index outer, index samples, index channels, index space,
                       index groups, bint last, int threads):
    """dx, dweight and dbias, each an array or None, the last two float64 and (channels,).

    ``given``: mean and variance do not depend on x.
    """
    cdef Job j
    cdef bint single = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT
    cdef Workspace sums
    cdef double* total
    cdef index o, c
    cdef double r, away, m
    j.s = lay_out(outer, samples, channels, space, groups, last, 4 if single else 8)
    j.out = NULL if dx is None else cnp.PyArray_DATA(dx)
    j.x, j.dy, j.weight, j.bias = cnp.PyArray_DATA(x), cnp.PyArray_DATA(dy), doubles(weight), NULL
    j.eps, j.given, j.sums, j.floor = eps, given, NULL, -INFINITY
    j.mean, j.variance = <double*>cnp.PyArray_DATA(mean), <double*>cnp.PyArray_DATA(variance)
    if not given or dweight is not None or dbias is not None:
        sums = take(2 * outer * channels * sizeof(double))
        j.sums = <double*>sums.data
    if single:
        run[float](&j, NULL, threads)
    else:
        run[double](&j, NULL, threads)
    for o in range(outer if j.sums != NULL else 0):
        for c in range(channels):
            m = j.mean[o * groups + c // j.s.members]
            r = 1 / sqrt(j.variance[o * groups + c // j.s.members] + eps)
            away = m - <float>m if single else 0
            total = j.sums + 2 * (o * channels + c)
            if dweight is not None:
                (<double*>cnp.PyArray_DATA(dweight))[c] += (total[1] - away * total[0]) * r
            if dbias is not None:
                (<double*>cnp.PyArray_DATA(dbias))[c] += total[0]
