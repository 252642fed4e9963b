"""What normalisation is asked to do, and how it divides an array: into blocks, sets, chunks and parts of chunks, by
geometry alone."""

ctypedef Py_ssize_t index

cdef enum:
    CHUNK_BYTES = 1 << 14  # of which one sum is taken: the second pass over it finds it in the first-level cache
    PART_CHUNKS = 16  # chunks that follow each other in one task
    FEW_ROWS = 32  # a chunk of columns has at least so many rows, as each chunk costs a merge for every column
    MANY_PARTS = 64  # of columns at most: each has sums of its own for all of them, which are gathered one by one;
    MANY_ROWS = 128  # so each has so many rows, at least
    FULL_ROW = 256  # elements: shorter rows of columns are folded


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
    void* out  # y, or dx, which may be dy
    const void* x
    const void* other  # is added to y, or NULL
    const void* dy  # NULL: forward
    const void* weight  # of each channel, or NULL
    const void* bias
    double eps
    bint given  # mean and variance do not depend on x
    # y is not below it: 0 where a ReLU comes next, else -infinity. In backward NaN is none: nothing is below that.
    double floor
    double* mean  # [outer][groups]
    double* variance
    double* sums  # two for each channel (or column) of each block: of dy, of dy (x - center)
    double* partial
    void* scratch
    void* tables  # TABLES of outer x pitch


cdef inline Shape lay_out(index outer, index samples, index channels, index space, index groups, bint last,
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
    s.part_chunks = max((MANY_ROWS + s.chunk_rows - 1) // s.chunk_rows, (s.chunks + MANY_PARTS - 1) // MANY_PARTS)
    s.parts = (s.chunks + s.part_chunks - 1) // s.part_chunks
    s.pitch = s.width if last else channels
    return s


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


cdef inline double rows_of_part(const Shape* s, index part, index column) noexcept nogil:
    cdef index size = s.part_chunks * s.chunk_rows
    cdef index rows = min(s.rows, (part + 1) * size) - part * size
    return <double>(rows + (1 if part == s.parts - 1 and column < s.rest else 0))
