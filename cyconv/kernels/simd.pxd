"""What the kernels take from simd.h; the fused helpers pick the float or the double form while Cython compiles."""

from libc.stdint cimport int32_t, uint64_t

ctypedef fused real:
    float
    double

cdef extern from "simd.h" nogil:
    enum:
        CYCONV_VECTOR_BYTES
        CYCONV_TILE_PIXELS
        LANES_f32
        LANES_f64
        PIXEL_CHANNELS
        PAIR_CHANNELS
        PAIR_VECTORS

    int PIXEL_VECTORS(int channels) noexcept
    void cold() noexcept
    void fetch(const void* p, Py_ssize_t nbytes) noexcept
    void fetch_ahead(const void* p, Py_ssize_t nbytes) noexcept
    uint64_t flush_denormals() noexcept
    void restore_denormals(uint64_t before) noexcept

    void tile_f32(int rows, int columns, int vectors, const float* a, Py_ssize_t step, Py_ssize_t second,
                  const int32_t* table, Py_ssize_t n, const float* b, Py_ssize_t ldb, const float* init,
                  Py_ssize_t ldi, float* out, Py_ssize_t ldo, Py_ssize_t out_second) noexcept
    void tile_f64(int rows, int columns, int vectors, const double* a, Py_ssize_t step, Py_ssize_t second,
                  const int32_t* table, Py_ssize_t n, const double* b, Py_ssize_t ldb, const double* init,
                  Py_ssize_t ldi, double* out, Py_ssize_t ldo, Py_ssize_t out_second) noexcept
    void fetching_tile_f32(int columns, int vectors, const float* a, Py_ssize_t step, const int32_t* table,
                           Py_ssize_t n, const float* b, Py_ssize_t ldb, const float* init, Py_ssize_t ldi, float* out,
                           Py_ssize_t ldo, Py_ssize_t ahead) noexcept
    void fetching_tile_f64(int columns, int vectors, const double* a, Py_ssize_t step, const int32_t* table,
                           Py_ssize_t n, const double* b, Py_ssize_t ldb, const double* init, Py_ssize_t ldi,
                           double* out, Py_ssize_t ldo, Py_ssize_t ahead) noexcept
    void pixel_tile_f32(int channels, const float* x, const float* ahead, const Py_ssize_t* start, const int32_t* table,
                        Py_ssize_t n, const float* w, const float* bias, float floor, float* out, Py_ssize_t plane,
                        const Py_ssize_t* to, Py_ssize_t width) noexcept
    void pixel_tile_f64(int channels, const double* x, const double* ahead, const Py_ssize_t* start,
                        const int32_t* table, Py_ssize_t n, const double* w, const double* bias, double floor,
                        double* out, Py_ssize_t plane, const Py_ssize_t* to, Py_ssize_t width) noexcept
    void pair_tile_f32(int channels, const float* x, const Py_ssize_t* start, const int32_t* table_a,
                       const int32_t* table_b, Py_ssize_t n, const float* w_a, const float* w_b, const float* bias,
                       float floor, float** to, const Py_ssize_t* plane, Py_ssize_t width) noexcept
    void pair_tile_f64(int channels, const double* x, const Py_ssize_t* start, const int32_t* table_a,
                       const int32_t* table_b, Py_ssize_t n, const double* w_a, const double* w_b, const double* bias,
                       double floor, double** to, const Py_ssize_t* plane, Py_ssize_t width) noexcept
    void transpose_f32(const float* source, Py_ssize_t ldf, Py_ssize_t rows, Py_ssize_t columns, float* to,
                       Py_ssize_t ldt) noexcept
    void transpose_f64(const double* source, Py_ssize_t ldf, Py_ssize_t rows, Py_ssize_t columns, double* to,
                       Py_ssize_t ldt) noexcept
    void clear_row_f32(float* to, Py_ssize_t n) noexcept
    void clear_row_f64(double* to, Py_ssize_t n) noexcept
    void copy_row_f32(float* to, const float* source, Py_ssize_t n) noexcept
    void copy_row_f64(double* to, const double* source, Py_ssize_t n) noexcept
    void split_pairs_f32(float* even, float* odd, const float* source, Py_ssize_t n) noexcept
    void split_pairs_f64(double* even, double* odd, const double* source, Py_ssize_t n) noexcept
    void add_pixels_f32(const float* pixels, Py_ssize_t n, Py_ssize_t ld, float* to) noexcept
    void add_pixels_f64(const double* pixels, Py_ssize_t n, Py_ssize_t ld, double* to) noexcept
    void rectify_f32(float* x, Py_ssize_t n) noexcept
    void rectify_f64(double* x, Py_ssize_t n) noexcept
    float burn_f32(Py_ssize_t n, float factor) noexcept
    double burn_f64(Py_ssize_t n, double factor) noexcept


cdef inline int lanes(const real* p) noexcept nogil:
    """Elements of one vector."""
    return LANES_f32 if real is float else LANES_f64


cdef inline void tile(int rows, int columns, int vectors, const real* a, Py_ssize_t step, Py_ssize_t second,
                      const int32_t* table, Py_ssize_t n, const real* b, Py_ssize_t ldb, const real* init,
                      Py_ssize_t ldi, real* out, Py_ssize_t ldo, Py_ssize_t out_second) noexcept nogil:
    """The register tile: see tile.h."""
    if real is float:
        tile_f32(rows, columns, vectors, a, step, second, table, n, b, ldb, init, ldi, out, ldo, out_second)
    else:
        tile_f64(rows, columns, vectors, a, step, second, table, n, b, ldb, init, ldi, out, ldo, out_second)


cdef inline void fetching_tile(int columns, int vectors, const real* a, Py_ssize_t step, const int32_t* table,
                               Py_ssize_t n, const real* b, Py_ssize_t ldb, const real* init, Py_ssize_t ldi,
                               real* out, Py_ssize_t ldo, Py_ssize_t ahead) noexcept nogil:
    """One row of the register tile, with later weights and pixels on their way: see tile.h."""
    if real is float:
        fetching_tile_f32(columns, vectors, a, step, table, n, b, ldb, init, ldi, out, ldo, ahead)
    else:
        fetching_tile_f64(columns, vectors, a, step, table, n, b, ldb, init, ldi, out, ldo, ahead)


cdef inline void pixel_tile(int channels, const real* x, const real* ahead, const Py_ssize_t* start,
                            const int32_t* table, Py_ssize_t n, const real* w, const real* bias, real floor, real* out,
                            Py_ssize_t plane, const Py_ssize_t* to, Py_ssize_t width) noexcept nogil:
    """The pixel-vector form of the register tile: see tile.h."""
    if real is float:
        pixel_tile_f32(channels, x, ahead, start, table, n, w, bias, floor, out, plane, to, width)
    else:
        pixel_tile_f64(channels, x, ahead, start, table, n, w, bias, floor, out, plane, to, width)


cdef inline void pair_tile(int channels, const real* x, const Py_ssize_t* start, const int32_t* table_a,
                           const int32_t* table_b, Py_ssize_t n, const real* w_a, const real* w_b, const real* bias,
                           real floor, real** to, const Py_ssize_t* plane, Py_ssize_t width) noexcept nogil:
    """The same of two phases of pixels that alternate in the output: see tile.h."""
    if real is float:
        pair_tile_f32(channels, x, start, table_a, table_b, n, w_a, w_b, bias, floor, to, plane, width)
    else:
        pair_tile_f64(channels, x, start, table_a, table_b, n, w_a, w_b, bias, floor, to, plane, width)


cdef inline void transpose(const real* source, Py_ssize_t ldf, Py_ssize_t rows, Py_ssize_t columns, real* to,
                           Py_ssize_t ldt) noexcept nogil:
    """to[j, i] = source[i, j]; ldf and ldt are the row lengths."""
    if real is float:
        transpose_f32(source, ldf, rows, columns, to, ldt)
    else:
        transpose_f64(source, ldf, rows, columns, to, ldt)


cdef inline void clear_row(real* to, Py_ssize_t n) noexcept nogil:
    """n zeros."""
    if real is float:
        clear_row_f32(to, n)
    else:
        clear_row_f64(to, n)


cdef inline void copy_row(real* to, const real* source, Py_ssize_t n) noexcept nogil:
    """to = source, n elements."""
    if real is float:
        copy_row_f32(to, source, n)
    else:
        copy_row_f64(to, source, n)


cdef inline void split_pairs(real* even, real* odd, const real* source, Py_ssize_t n) noexcept nogil:
    """Elements at even and at odd places."""
    if real is float:
        split_pairs_f32(even, odd, source, n)
    else:
        split_pairs_f64(even, odd, source, n)


cdef inline void add_pixels(const real* pixels, Py_ssize_t n, Py_ssize_t ld, real* to) noexcept nogil:
    """to[k] += sum over n pixels of pixels[pixel][k], summed by itself first; ld: whole vectors."""
    if real is float:
        add_pixels_f32(pixels, n, ld, to)
    else:
        add_pixels_f64(pixels, n, ld, to)


cdef inline void rectify(real* x, Py_ssize_t n) noexcept nogil:
    """x = max(x, 0), NaN passing."""
    if real is float:
        rectify_f32(x, n)
    else:
        rectify_f64(x, n)
