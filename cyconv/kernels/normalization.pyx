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
from libc.math cimport INFINITY, NAN
from libc.stdint cimport uint64_t
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
from cyconv.kernels.normalization_shape cimport (
    CHUNK_BYTES,
    FEW_ROWS,
    PART_CHUNKS,
    Job,
    Shape,
    Stretches,
    lay_out,
    rows_of_part,
    stretches,
)
from cyconv.kernels.normalization_tables cimport gather_columns, head_of, spread, tabulate, tabulate_forward
from cyconv.kernels.simd cimport flush_denormals, real, restore_denormals

cnp.import_array()

ctypedef Py_ssize_t index

cdef enum:
    PIECE = 16384  # elements that a task normalises
    CACHED = 1 << 21  # bytes of a set of which much is still in a cache when its statistics are known
    SLAB = 256  # columns of a slab
    SMALL_MAP = 256  # bytes of a map that is read in slabs
    TABLES = 5  # center, scale and shift of forward, and two of backward


# ------------------------------------------------------------------------------------------------- sums of stretches


cdef void part_of_stretches(const Stretches* t, const real* x, const real* dy, const real* table, index size,
                            real floor, index part, double* found) noexcept nogil:
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
            stretch_products(dy + at, x + at, count, t.step, length, table[0], table[size], table[2 * size], floor,
                             found + 1, found + 2)
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
    part_of_stretches[real](&t, <const real*>j.x + at, NULL if j.dy == NULL else <const real*>j.dy + at,
                            <const real*>j.tables + set, s.outer * s.pitch, <real>j.floor, part, found)


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
    cdef index w = j.s.width, at = row * w, size = j.s.outer * j.s.pitch
    cdef const real* t
    if dy == NULL:
        column_moments(found, found + w, <double>before, x + at, rows, w, n, scratch)
    else:
        t = <const real*>j.tables + block * j.s.pitch
        column_products(found, found + w, dy + at, x + at, t, t + size, t + 2 * size, <real>j.floor, rows, w, n,
                        scratch)


cdef void gather_block(const Job* j, index block, double* found) noexcept nogil:
    """Mean and variance of each group from the parts of its columns, or the sums of each channel."""
    cdef const Shape* s = &j.s
    cdef index g, c, k, column, w = s.width
    cdef double count, a, b
    for k in range(1, s.parts):
        gather_part(j, found, found + 2 * k * w, k)
    if j.dy != NULL:
        for c in range(s.channels):
            a = b = 0
            for k in range(s.fold):
                a += found[k * s.channels + c]
                b += found[w + k * s.channels + c]
            j.sums[2 * (block * s.channels + c)] = a
            j.sums[2 * (block * s.channels + c) + 1] = b
        return
    for g in range(s.groups):
        count = a = b = 0
        for c in range(g * s.members, (g + 1) * s.members):
            for k in range(s.fold):
                column = k * s.channels + c
                merge_moments(&count, &a, &b, <double>(s.rows + (1 if column < s.rest else 0)), found[column],
                              found[w + column])
        j.mean[block * s.groups + g] = a
        j.variance[block * s.groups + g] = b / count


cdef void gather_part(const Job* j, double* found, const double* more, index part) noexcept nogil:
    """Put a part of the columns to those before it, side by side: a division for each of them would be felt."""
    cdef const Shape* s = &j.s
    cdef index w = s.width, c, k, first = 0, end
    cdef double before = <double>(part * s.part_chunks * s.chunk_rows), share, factor, difference, rows
    if j.dy != NULL:
        for c in range(2 * w):
            found[c] += more[c]
        return
    for k in range(2):  # columns with an element of the rest, and those without
        end = w if k else s.rest
        rows = rows_of_part(s, part, w if k else -1)
        share = rows / (before + rows)
        factor = before * share
        for c in range(first, end):
            difference = more[c] - found[c]
            found[c] += difference * share
            found[w + c] += more[w + c] + difference * difference * factor
        first = end


# ------------------------------------------------------------------------------------------------------- application


cdef void apply_stretch(const Job* j, real* typed, index at, index count, index n, index entry) noexcept nogil:
    """Normalise n elements of one channel of `count` samples, or differentiate; `entry`: its place in the tables."""
    cdef index step = j.s.channels * j.s.space
    cdef index size = j.s.outer * j.s.pitch
    cdef const real* table = <const real*>j.tables + entry
    cdef const real* x = <const real*>j.x + at
    cdef real* out = <real*>j.out + at
    cdef const real* other = NULL if j.other == NULL else <const real*>j.other + at
    cdef real floor = <real>j.floor
    if j.dy == NULL:
        stretch_affine(out, x, other, count, step, n, table[0], table[size], table[2 * size], floor)
    else:
        stretch_gradient(out, <const real*>j.dy + at, x, count, step, n, table[0], table[size], table[2 * size], floor,
                         table[3 * size], table[4 * size])


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


cdef void apply_columns(const Job* j, real* typed, index block, index at, index rows, index n,
                        index column) noexcept nogil:
    cdef index size = j.s.outer * j.s.pitch
    cdef const real* t = <const real*>j.tables + block * j.s.pitch + column
    cdef const real* x = <const real*>j.x + at
    cdef real* out = <real*>j.out + at
    cdef const real* other = NULL if j.other == NULL else <const real*>j.other + at
    cdef real floor = <real>j.floor
    if j.dy == NULL:
        column_affine(out, x, other, rows, n, t, t + size, t + 2 * size, floor)
    else:
        column_gradient(out, <const real*>j.dy + at, x, rows, n, t, t + size, t + 2 * size, floor, t + 3 * size,
                        t + 4 * size)


cdef inline index pieces_of(const Shape* s) noexcept nogil:
    """Tasks of the application: pieces of a stretch, or several runs; groups of rows of one block."""
    cdef index runs = s.outer * s.samples * s.channels, each
    if s.last:
        each = max(<index>8, PIECE // s.width // 8 * 8)
        return s.outer * max(<index>1, (s.rows + each - 1) // each)
    if s.space >= PIECE:
        return runs * ((s.space + PIECE - 1) // PIECE)
    each = PIECE // s.space
    return (runs + each - 1) // each


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
        apply_stretch(j, typed, k * s.space + first, 1, min(<index>PIECE, s.space - first), entry_of(s, k))
    else:
        each = PIECE // s.space
        for k in range(piece * each, min((piece + 1) * each, s.outer * s.samples * s.channels)):
            apply_stretch(j, typed, k * s.space, 1, s.space, entry_of(s, k))


cdef inline index entry_of(const Shape* s, index stretch) noexcept nogil:
    return stretch // (s.samples * s.channels) * s.channels + stretch % s.channels


# -------------------------------------------------------------------------------------------------------------- runs


cdef void whole_group(const Job* j, real* typed, index set, double* found) noexcept nogil:
    """Statistics of a group of a block in stretches, then the group itself, from the cache."""
    cdef const Shape* s = &j.s
    cdef index block = set // s.groups, group = set % s.groups, c, at
    cdef uint64_t mode = flush_denormals()
    if j.dy == NULL:
        set_from_stretches(j, typed, set, found)
    elif j.sums != NULL:
        tabulate_forward(j, typed, block, group, 0)
        for c in range(block * s.channels + group * s.members, block * s.channels + (group + 1) * s.members):
            if s.samples == 1 and s.space * <index>sizeof(real) <= CHUNK_BYTES:
                short_products(j, typed, c)
            else:
                set_from_stretches(j, typed, c, found)
    tabulate(j, typed, block, group)
    if j.out != NULL:
        for c in range(group * s.members, (group + 1) * s.members):
            at = (block * s.samples * s.channels + c) * s.space
            apply_stretch(j, typed, at, s.samples, s.space, block * s.channels + c)
    restore_denormals(mode)


cdef inline void short_products(const Job* j, real* typed, index c) noexcept nogil:
    """The sums of a channel of one sample, which is one chunk; as `set_from_stretches`, without its divisions."""
    cdef index size = j.s.outer * j.s.pitch, at = c * j.s.space
    cdef const real* t = <const real*>j.tables + c
    j.sums[2 * c] = j.sums[2 * c + 1] = 0
    stretch_products(<const real*>j.dy + at, <const real*>j.x + at, 1, 0, j.s.space, t[0], t[size], t[2 * size],
                     <real>j.floor, j.sums + 2 * c, j.sums + 2 * c + 1)


cdef void set_from_stretches(const Job* j, real* typed, index set, double* found) noexcept nogil:
    cdef Stretches t = stretches(&j.s, set_length(j), sizeof(real))
    cdef index k
    for k in range(t.parts):
        set_part(j, typed, set, k, found + 3 * k)
    gather_set(j, set, t.parts, found)


cdef void whole_block(const Job* j, real* typed, index block, double* found, real* scratch) noexcept nogil:
    """Statistics of a block in columns, then the block itself."""
    cdef const Shape* s = &j.s
    cdef index k, pieces = pieces_of(s) // s.outer
    cdef uint64_t mode = flush_denormals()
    if j.dy != NULL:
        for k in range(s.groups):
            tabulate_forward(j, typed, block, k, 0)
    for k in range(s.parts):
        column_part(j, typed, block, k, found + 2 * k * s.width, scratch)
    gather_block(j, block, found)
    for k in range(s.groups):
        tabulate(j, typed, block, k)
    if j.out != NULL:
        # From the last piece to the first: a cache holds what was read last.
        for k in range(pieces - 1, -1, -1):
            apply_piece(j, typed, block * pieces + k)
    restore_denormals(mode)


# A batch of small maps: neighbouring channels make a *slab*, samples x columns, of which each channel has `space` side
# by side. Its rows are long enough to be read one after the other; stretches of single channels, a power of two apart
# in all samples, would drive each other out of the caches.


cdef inline index slab_channels(const Shape* s, index itemsize) noexcept nogil:
    """Channels of a slab; 0: there are none."""
    cdef index each = SLAB // s.space
    if s.last or s.outer > 1 or s.groups < s.channels or s.space * itemsize > SMALL_MAP or s.samples < FEW_ROWS // 2:
        return 0
    while each * s.space > 64 and each * 8 > s.channels:  # for all threads something
        each = (each + 1) // 2
    return max(<index>1, min(each, s.channels))


cdef void one_slab(const Job* j, real* typed, index first, index end, double* found, real* tables) noexcept nogil:
    """Channels `first` to before `end`; found: two rows of columns, tables: eight."""
    cdef const Shape* s = &j.s
    cdef index step = s.channels * s.space, at = first * s.space, n = (end - first) * s.space, row, rows, c, k, i
    cdef const real* x = <const real*>j.x + at
    cdef const real* dy = NULL if j.dy == NULL else <const real*>j.dy + at
    cdef const real* other = NULL
    cdef real* out = NULL if j.out == NULL else <real*>j.out + at
    cdef real floor = <real>j.floor
    cdef uint64_t mode = flush_denormals()
    if j.dy == NULL and not j.given:
        for k in range((s.samples + FEW_ROWS - 1) // FEW_ROWS):
            row = k * FEW_ROWS
            rows = min(<index>FEW_ROWS, s.samples - row)
            column_moments(found, found + n, <double>row, x + row * step, rows, step, n, tables)
        for c in range(first, end):
            gather_columns(j, c, found + (c - first) * s.space, found + n + (c - first) * s.space)
    for c in range(first, end):
        tabulate_forward(j, typed, 0, c, 0)
    spread(j, typed, first, end, 3, tables)
    if j.dy != NULL and j.sums != NULL:
        memset(found, 0, 2 * n * sizeof(double))
        for k in range((s.samples + FEW_ROWS - 1) // FEW_ROWS):
            row = k * FEW_ROWS
            rows = min(<index>FEW_ROWS, s.samples - row)
            i = row * step
            column_products(found, found + n, dy + i, x + i, tables, tables + n, tables + 2 * n, floor, rows, step, n,
                            tables + 5 * n)
        for c in range(first, end):
            j.sums[2 * c] = j.sums[2 * c + 1] = 0
            for k in range((c - first) * s.space, (c - first + 1) * s.space):
                j.sums[2 * c] += found[k]
                j.sums[2 * c + 1] += found[n + k]
    if j.dy != NULL:
        for c in range(first, end):
            tabulate(j, typed, 0, c)
        spread(j, typed, first, end, TABLES, tables)
    for row in range(s.samples if out != NULL else 0):
        i = row * step
        if j.other != NULL:
            other = <const real*>j.other + at + i
        if dy == NULL:
            column_affine(out + i, x + i, other, 1, n, tables, tables + n, tables + 2 * n, floor)
        else:
            column_gradient(out + i, dy + i, x + i, 1, n, tables, tables + n, tables + 2 * n, floor, tables + 3 * n,
                            tables + 4 * n)
    restore_denormals(mode)


cdef int run_slabs(Job* job, real* typed, index each, int threads) except -1:
    cdef Job j = job[0]
    cdef index channels = j.s.channels, slabs = (channels + each - 1) // each, n = each * j.s.space, i
    cdef Workspace tables = take(TABLES * channels * sizeof(real))
    cdef Workspace found = take(slabs * 2 * n * sizeof(double))
    cdef Workspace columns = take(slabs * 8 * n * sizeof(real))
    j.tables = tables.data
    with nogil:
        for i in prange(slabs, schedule="static", num_threads=threads):
            one_slab(&j, typed, i * each, min(channels, (i + 1) * each), <double*>found.data + i * 2 * n,
                     <real*>columns.data + i * 8 * n)
    return 0


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
    cdef index each_slab = slab_channels(&job.s, sizeof(real))
    if each_slab:
        return run_slabs(job, typed, each_slab, threads)
    return run_blocks(job, typed, threads)


cdef int run_blocks(Job* job, real* typed, int threads) except -1:
    cdef Job j = job[0]
    cdef Shape* s = &j.s
    cdef bint sums = j.sums != NULL if j.dy != NULL else not j.given
    cdef index sets = s.outer if s.last else s.outer * sets_of(s, j.dy == NULL)
    cdef Stretches t = stretches(s, set_length(&j), sizeof(real))
    cdef index parts = s.parts if s.last else t.parts
    cdef index units = s.outer if s.last else s.outer * s.groups  # that may be fused
    cdef index unit = (s.block if s.last else s.block // s.groups) * sizeof(real) * (1 if j.dy == NULL else 2)
    # Few units: where all is in a cache, and each thread has one. Either way adds up the same parts in the same order.
    cdef bint fused = sums and unit <= CACHED and (units >= 8 or unit * units <= CACHED and units >= threads)
    cdef index each = 2 * s.width * parts if s.last else 3 * parts
    cdef Workspace tables = take(TABLES * s.outer * s.pitch * sizeof(real))
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
                if j.dy != NULL:
                    for i in range(s.outer * s.groups):
                        tabulate_forward(&j, typed, i // s.groups, i % s.groups, 0)
                for i in prange(sets * parts, schedule="static", num_threads=threads):
                    one_part(&j, typed, i, parts, partial, rows)
                for i in range(sets):
                    if s.last:
                        gather_block(&j, i, partial + i * each)
                    else:
                        gather_set(&j, i, parts, partial + i * each)
            for i in range(s.outer * s.groups):
                tabulate(&j, typed, i // s.groups, i % s.groups)
            if j.out != NULL:
                for i in prange(pieces, schedule="static", num_threads=threads):
                    one_piece(&j, typed, i)
    return 0


cdef void finish(const Job* j, real* typed, dweight, dbias) noexcept:
    """Gradients of weight and bias, in the type of x, from the sums of all blocks."""
    cdef index size = 2 * j.s.channels, o, c
    for o in range(1, j.s.outer):
        for c in range(size):
            j.sums[c] += j.sums[o * size + c]
    for c in range(j.s.channels):
        if dweight is not None:
            (<real*>cnp.PyArray_DATA(dweight))[c] = <real>j.sums[2 * c + 1]
        if dbias is not None:
            (<real*>cnp.PyArray_DATA(dbias))[c] = <real>j.sums[2 * c]


cdef void move(const Job* j, real* typed, running, const double* found, double momentum, double unbiased) noexcept:
    """running = (1 - momentum) running + momentum times the mean of what was found in all blocks, times `unbiased`."""
    cdef char* data = <char*>cnp.PyArray_DATA(running)
    cdef index stride = cnp.PyArray_STRIDE(running, 0), c, o
    cdef double total
    cdef real* value
    for c in range(j.s.groups):
        total = 0
        for o in range(j.s.outer):
            total += found[o * j.s.groups + c]
        value = <real*>(data + c * stride)
        value[0] = <real>((1 - momentum) * value[0] + momentum * (total / j.s.outer * unbiased))


cdef inline void* data_of(array):
    return NULL if array is None else cnp.PyArray_DATA(array)


def normalize(y, cnp.ndarray x, cnp.ndarray mean, cnp.ndarray variance, weight, bias, double eps, bint given,
              index outer, index samples, index channels, index space, index groups, bint last, int threads,
              bint rectified=False, other=None, running_mean=None, running_variance=None, double momentum=0):
    """y = (x - mean) / sqrt(variance + eps) weight + bias + other; no y: the statistics alone; through a ReLU if
    ``rectified``.

    ``mean`` and ``variance``, (outer, groups), float64, are written unless they are ``given``; all else is of the type
    of x. ``other`` is None or lies as x does. Running statistics, None or (groups,), move towards what was found. No
    size is 0.
    """
    cdef Job j
    cdef bint single = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT
    cdef double n
    j.s = lay_out(outer, samples, channels, space, groups, last, 4 if single else 8)
    j.out, j.other = data_of(y), data_of(other)
    j.x, j.dy, j.weight, j.bias = cnp.PyArray_DATA(x), NULL, data_of(weight), data_of(bias)
    j.eps, j.given, j.sums, j.floor = eps, given, NULL, 0 if rectified else -INFINITY
    j.mean, j.variance = <double*>cnp.PyArray_DATA(mean), <double*>cnp.PyArray_DATA(variance)
    n = <double>(samples * space * j.s.members)
    if single:
        run[float](&j, NULL, threads)
    else:
        run[double](&j, NULL, threads)
    for found, running, unbiased in ((mean, running_mean, 1.0), (variance, running_variance, n / max(n - 1, 1))):
        if running is not None:
            if single:
                move[float](&j, NULL, running, <double*>cnp.PyArray_DATA(found), momentum, unbiased)
            else:
                move[double](&j, NULL, running, <double*>cnp.PyArray_DATA(found), momentum, unbiased)


def normalize_backward(dx, dweight, dbias, cnp.ndarray dy, cnp.ndarray x, cnp.ndarray mean, cnp.ndarray variance,
                       weight, bias, double eps, bint given, index outer, index samples, index channels, index space,
                       index groups, bint last, int threads, bint rectified=False):
    """dx, which may be dy, dweight and dbias, (channels,), each an array of the type of x or None.

    ``given``: mean and variance do not depend on x. ``rectified``: dy is the gradient behind a ReLU.
    """
    cdef Job j
    cdef bint single = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT
    cdef Workspace sums
    j.s = lay_out(outer, samples, channels, space, groups, last, 4 if single else 8)
    j.out, j.other = data_of(dx), NULL
    j.x, j.dy, j.weight, j.bias = cnp.PyArray_DATA(x), cnp.PyArray_DATA(dy), data_of(weight), data_of(bias)
    j.eps, j.given, j.sums, j.floor = eps, given, NULL, 0 if rectified else NAN
    j.mean, j.variance = <double*>cnp.PyArray_DATA(mean), <double*>cnp.PyArray_DATA(variance)
    if not given or dweight is not None or dbias is not None:
        sums = take(2 * outer * channels * sizeof(double))
        j.sums = <double*>sums.data
    if single:
        run[float](&j, NULL, threads)
    else:
        run[double](&j, NULL, threads)
    if dweight is not None or dbias is not None:
        if single:
            finish[float](&j, NULL, dweight, dbias)
        else:
            finish[double](&j, NULL, dweight, dbias)
