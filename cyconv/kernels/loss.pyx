"""Softmax along an axis, and the loss functions made of it: cross-entropy and negative log-likelihood.

An array is [outer][class][inner]. Where inner is 1 the classes of a sample lie side by side, and vectors go along
them; else vectors go over samples. A few classes side by side would fill few vectors, and each sample be folded into
one number anew: some samples at a time are transposed, and vectors go over them as well. Samples are cut into blocks
by geometry alone; each block's loss is added up in double precision, and the blocks' sums in their order.
"""

from cython.parallel cimport prange
from libc.math cimport log
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

cimport numpy as cnp

from cyconv.kernels._workspace cimport Workspace, take
from cyconv.kernels.simd cimport flush_denormals, real, restore_denormals, transpose

cnp.import_array()

ctypedef Py_ssize_t index

DEF TURNED = 64
DEF ROOM = 64  # for a vector more

cdef extern from "softmax.h" nogil:
    float row_exp_f32(float* y, const float* x, index n, float* top) noexcept
    double row_exp_f64(double* y, const double* x, index n, double* top) noexcept
    void row_scale_f32(float* y, index n, float factor) noexcept
    void row_scale_f64(double* y, index n, double factor) noexcept
    void row_shift_f32(float* y, const float* x, index n, float top, float logarithm) noexcept
    void row_shift_f64(double* y, const double* x, index n, double top, double logarithm) noexcept
    void column_exp_f32(float* y, const float* x, index classes, index stride, index samples, float* top,
                        float* sum) noexcept
    void column_exp_f64(double* y, const double* x, index classes, index stride, index samples, double* top,
                        double* sum) noexcept
    void column_scale_f32(float* y, index classes, index stride, index samples, const float* factor) noexcept
    void column_scale_f64(double* y, index classes, index stride, index samples, const double* factor) noexcept
    void short_backward_f32(int logarithm, float* dx, const float* dy, const float* y, index classes, index samples,
                            float* wide) noexcept
    void short_backward_f64(int logarithm, double* dx, const double* dy, const double* y, index classes,
                            index samples, double* wide) noexcept
    void column_softmax_f32(int logarithm, float* y, const float* x, index classes, index stride,
                            index samples) noexcept
    void column_softmax_f64(int logarithm, double* y, const double* x, index classes, index stride,
                            index samples) noexcept
    void row_backward_f32(int logarithm, float* dx, const float* dy, const float* y, index n) noexcept
    void row_backward_f64(int logarithm, double* dx, const double* dy, const double* y, index n) noexcept
    void column_backward_f32(int logarithm, float* dx, const float* dy, const float* y, index classes, index stride,
                             index samples) noexcept
    void column_backward_f64(int logarithm, double* dx, const double* dy, const double* y, index classes, index stride,
                             index samples) noexcept

# Samples of a block at most: their maxima and sums stay on the stack.
cdef enum:
    BLOCK = 128
    # Numbers of a block of samples whose classes lie side by side, about: so that few samples of many classes make
    # blocks for several threads.
    BLOCK_NUMBERS = 16384
    # Up to so many classes side by side are transposed, for TURNED samples at a time: at most 32 KB on the stack.
    FEW_CLASSES = 64


cdef struct Shape:
    index outer, classes, inner
    index block  # samples of a block; never across two outer indices unless inner is 1
    index blocks
    index sample_step, class_step


cdef struct Block:
    index sample  # number of the first sample
    index start  # where its class 0 stands
    index samples


cdef Shape lay_out(index outer, index classes, index inner) noexcept:
    cdef Shape s
    s.outer, s.classes, s.inner = outer, classes, inner
    s.class_step = inner
    s.sample_step = classes if inner == 1 else 1
    s.block = max(<index>1, min(<index>BLOCK, BLOCK_NUMBERS // max(<index>1, classes))) if inner == 1 else BLOCK
    s.blocks = (outer + s.block - 1) // s.block if inner == 1 else outer * ((inner + s.block - 1) // s.block)
    return s


cdef inline Block block_at(const Shape* s, index i) noexcept nogil:
    cdef Block b
    cdef index per_outer
    if s.inner == 1:
        b.sample = i * s.block
        b.start = b.sample * s.classes
        b.samples = min(s.block, s.outer - b.sample)
    else:
        per_outer = (s.inner + s.block - 1) // s.block
        b.start = i % per_outer * s.block
        b.samples = min(s.block, s.inner - b.start)
        b.sample = i // per_outer * s.inner + b.start
        b.start += i // per_outer * s.classes * s.inner
    return b


cdef inline bint few_classes(const Shape* s) noexcept nogil:
    return s.inner == 1 and s.classes <= FEW_CLASSES


cdef inline void columns_exp(const Shape* s, real* y, const real* x, index stride, index samples, real* top,
                             real* sum) noexcept nogil:
    """top, sum and, unless y is NULL, the exponentials of samples that lie side by side."""
    if real is float:
        column_exp_f32(y, x, s.classes, stride, samples, top, sum)
    else:
        column_exp_f64(y, x, s.classes, stride, samples, top, sum)


cdef inline void exponentials(const Shape* s, const Block* b, const real* x, real* top, real* sum) noexcept nogil:
    """top and sum of exp(x - top) for each sample of a block at ``x``."""
    cdef index k, n
    cdef real turned[FEW_CLASSES * TURNED]
    if few_classes(s):
        for k in range(0, b.samples, TURNED):
            n = min(<index>TURNED, b.samples - k)
            transpose(x + k * s.classes, s.classes, n, s.classes, turned, TURNED)
            columns_exp(s, <real*>NULL, <const real*>turned, TURNED, n, top + k, sum + k)
    elif s.inner == 1:
        for k in range(b.samples):
            if real is float:
                sum[k] = row_exp_f32(NULL, x + k * s.classes, s.classes, top + k)
            else:
                sum[k] = row_exp_f64(NULL, x + k * s.classes, s.classes, top + k)
    else:
        columns_exp(s, <real*>NULL, x, s.inner, b.samples, top, sum)


def softmax(cnp.ndarray y, cnp.ndarray x, bint logarithm, index outer, index classes, index inner, int threads):
    """y = softmax of x over the classes, or its logarithm."""
    if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT:
        run_softmax[float](<float*>cnp.PyArray_DATA(y), <const float*>cnp.PyArray_DATA(x), logarithm,
                           lay_out(outer, classes, inner), threads)
    else:
        run_softmax[double](<double*>cnp.PyArray_DATA(y), <const double*>cnp.PyArray_DATA(x), logarithm,
                            lay_out(outer, classes, inner), threads)


cdef int run_softmax(real* y, const real* x, bint logarithm, Shape shape, int threads) except -1:
    cdef index i
    cdef Shape s = shape
    with nogil:
        if threads == 1 or s.blocks < 2:
            for i in range(s.blocks):
                softmax_block(&s, y, x, logarithm, i)
        else:
            for i in prange(s.blocks, schedule="static", num_threads=threads):
                softmax_block(&s, y, x, logarithm, i)
    return 0


cdef void softmax_block(const Shape* s, real* y, const real* x, bint logarithm, index i) noexcept nogil:
    cdef Block b = block_at(s, i)
    cdef index k, n
    cdef real turned[FEW_CLASSES * TURNED]
    cdef uint64_t mode = flush_denormals()
    x += b.start
    y += b.start
    if few_classes(s):
        for k in range(0, b.samples, TURNED):
            n = min(<index>TURNED, b.samples - k)
            transpose(x + k * s.classes, s.classes, n, s.classes, turned, TURNED)
            columns_softmax(s, turned, <const real*>turned, logarithm, TURNED, n)
            transpose(<const real*>turned, TURNED, s.classes, n, y + k * s.classes, s.classes)
    elif s.inner == 1:
        for k in range(b.samples):
            softmax_row(y + k * s.classes, x + k * s.classes, logarithm, s.classes)
    else:
        columns_softmax(s, y, x, logarithm, s.inner, b.samples)
    restore_denormals(mode)


cdef inline void columns_softmax(const Shape* s, real* y, const real* x, bint logarithm, index stride,
                                 index samples) noexcept nogil:
    if real is float:
        column_softmax_f32(logarithm, y, x, s.classes, stride, samples)
    else:
        column_softmax_f64(logarithm, y, x, s.classes, stride, samples)


cdef inline void softmax_row(real* y, const real* x, bint logarithm, index classes) noexcept nogil:
    """One sample: its exponentials are still in the first-level cache when they are divided."""
    cdef real top, sum
    if real is float:
        sum = row_exp_f32(NULL if logarithm else y, x, classes, &top)
        if logarithm:
            row_shift_f32(y, x, classes, top, <float>log(sum))
        else:
            row_scale_f32(y, classes, 1 / sum)
    else:
        sum = row_exp_f64(NULL if logarithm else y, x, classes, &top)
        if logarithm:
            row_shift_f64(y, x, classes, top, log(sum))
        else:
            row_scale_f64(y, classes, 1 / sum)


def softmax_backward(cnp.ndarray dx, cnp.ndarray dy, cnp.ndarray y, bint logarithm, index outer, index classes,
                     index inner, int threads):
    """dx from dy and the output y of softmax, or of its logarithm."""
    if cnp.PyArray_TYPE(y) == cnp.NPY_FLOAT:
        run_backward[float](<float*>cnp.PyArray_DATA(dx), <const float*>cnp.PyArray_DATA(dy),
                            <const float*>cnp.PyArray_DATA(y), logarithm, lay_out(outer, classes, inner), threads)
    else:
        run_backward[double](<double*>cnp.PyArray_DATA(dx), <const double*>cnp.PyArray_DATA(dy),
                             <const double*>cnp.PyArray_DATA(y), logarithm, lay_out(outer, classes, inner), threads)


cdef int run_backward(real* dx, const real* dy, const real* y, bint logarithm, Shape shape, int threads) except -1:
    cdef index i
    cdef Shape s = shape
    with nogil:
        if threads == 1 or s.blocks < 2:
            for i in range(s.blocks):
                backward_block(&s, dx, dy, y, logarithm, i)
        else:
            for i in prange(s.blocks, schedule="static", num_threads=threads):
                backward_block(&s, dx, dy, y, logarithm, i)
    return 0


cdef void backward_block(const Shape* s, real* dx, const real* dy, const real* y, bint logarithm,
                         index i) noexcept nogil:
    cdef Block b = block_at(s, i)
    cdef index k, n, at
    cdef real wide[FEW_CLASSES * TURNED + ROOM]
    cdef uint64_t mode = flush_denormals()
    if few_classes(s):
        for k in range(0, b.samples, TURNED):
            n = min(<index>TURNED, b.samples - k)
            at = b.start + k * s.classes
            if real is float:
                short_backward_f32(logarithm, dx + at, dy + at, y + at, s.classes, n, wide)
            else:
                short_backward_f64(logarithm, dx + at, dy + at, y + at, s.classes, n, wide)
    elif s.inner == 1:
        for k in range(b.samples):
            at = b.start + k * s.classes
            if real is float:
                row_backward_f32(logarithm, dx + at, dy + at, y + at, s.classes)
            else:
                row_backward_f64(logarithm, dx + at, dy + at, y + at, s.classes)
    else:
        at = b.start
        columns_backward(s, dx + at, dy + at, y + at, logarithm, s.inner, b.samples)
    restore_denormals(mode)


cdef inline void columns_backward(const Shape* s, real* dx, const real* dy, const real* y, bint logarithm,
                                  index stride, index samples) noexcept nogil:
    if real is float:
        column_backward_f32(logarithm, dx, dy, y, s.classes, stride, samples)
    else:
        column_backward_f64(logarithm, dx, dy, y, s.classes, stride, samples)


def check_targets(cnp.ndarray target, weight, index classes, int64_t ignore):
    """Return (sum of the weights of the targets that count, number of the first that is no class, or -1)."""
    cdef const int64_t* labels = <const int64_t*>cnp.PyArray_DATA(target)
    cdef const double* w = NULL
    cdef index n = cnp.PyArray_SIZE(target), i, first = -1
    cdef double total = 0, part = 0
    if weight is not None:
        w = <const double*>cnp.PyArray_DATA(weight)
    with nogil:
        for i in range(n):
            if i % BLOCK == 0:  # sums in two levels, as everywhere: their error grows with the root of their length
                total += part
                part = 0
            if labels[i] == ignore:
                continue
            if not 0 <= labels[i] < classes:
                first = i
                break
            part += w[labels[i]] if w != NULL else 1
    return total + part, first


cdef struct Target:
    # One of the first two is given
    const int64_t* labels
    const void* probabilities
    const double* weight  # of each class, or NULL
    int64_t ignore
    double rest  # 1 - smoothing
    double uniform  # smoothing / classes
    bint logits  # the input is logits, not logarithms of probabilities


cdef Target target_of(cnp.ndarray target, weight, index classes, int64_t ignore, double smoothing, bint logits):
    cdef Target t
    t.labels = NULL
    t.probabilities = NULL
    if cnp.PyArray_TYPE(target) == cnp.NPY_FLOAT or cnp.PyArray_TYPE(target) == cnp.NPY_DOUBLE:
        t.probabilities = cnp.PyArray_DATA(target)
    else:
        t.labels = <const int64_t*>cnp.PyArray_DATA(target)
    t.weight = NULL
    if weight is not None:
        t.weight = <const double*>cnp.PyArray_DATA(weight)
    t.ignore, t.rest, t.uniform, t.logits = ignore, 1 - smoothing, smoothing / max(classes, 1), logits
    return t


def cross_entropy(losses, cnp.ndarray x, cnp.ndarray target, weight, int64_t ignore, double smoothing, bint logits,
                  index outer, index classes, index inner, int threads):
    """Return the sum of the losses; ``losses``: None, or an array for each of them.

    ``target``: int64 labels, checked, or probabilities in the dtype and memory order of x; ``weight``: None or float64.
    """
    cdef void* each = NULL if losses is None else cnp.PyArray_DATA(losses)
    cdef Target t = target_of(target, weight, classes, ignore, smoothing, logits)
    if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT:
        return sum_losses[float](<float*>each, <const float*>cnp.PyArray_DATA(x), t, lay_out(outer, classes, inner),
                                 threads)
    return sum_losses[double](<double*>each, <const double*>cnp.PyArray_DATA(x), t, lay_out(outer, classes, inner),
                              threads)


cdef double sum_losses(real* losses, const real* x, Target target, Shape shape, int threads) except? -1:
    cdef Shape s = shape
    cdef Target t = target
    cdef index i
    cdef Workspace memory = take(s.blocks * sizeof(double))
    cdef double* partial = <double*>memory.data
    cdef double total = 0
    with nogil:
        if threads == 1 or s.blocks < 2:
            for i in range(s.blocks):
                partial[i] = loss_block(&s, &t, losses, x, i)
        else:
            for i in prange(s.blocks, schedule="static", num_threads=threads):
                partial[i] = loss_block(&s, &t, losses, x, i)
        for i in range(s.blocks):
            total += partial[i]
    return total


cdef double loss_block(const Shape* s, const Target* t, real* losses, const real* x, index i) noexcept nogil:
    cdef Block b = block_at(s, i)
    cdef real top[BLOCK]
    cdef real sum[BLOCK]
    cdef double total = 0, loss
    cdef index k
    cdef uint64_t mode = flush_denormals()
    if t.logits:
        exponentials(s, &b, x + b.start, top, sum)
    for k in range(b.samples):
        if t.logits:
            loss = loss_of(s, t, x + b.start + k * s.sample_step, b.start + k * s.sample_step, b.sample + k,
                           <double>top[k], log(<double>sum[k]))
        else:
            loss = loss_of(s, t, x + b.start + k * s.sample_step, b.start + k * s.sample_step, b.sample + k, 0, 0)
        total += loss
        if losses != NULL:
            losses[b.sample + k] = <real>loss
    restore_denormals(mode)
    return total


cdef inline double coefficient(const Shape* s, const Target* t, const real* x, index at, index sample,
                               index c) noexcept nogil:
    """How much the log-probability of class c counts in the loss of a sample, whose class 0 stands at ``at``."""
    cdef double a
    if t.labels != NULL:
        a = t.rest if t.labels[sample] == c else 0
    else:
        a = (<const real*>t.probabilities)[at + c * s.class_step] * t.rest
    a += t.uniform
    return a if t.weight == NULL else a * t.weight[c]


cdef double loss_of(const Shape* s, const Target* t, const real* x, index at, index sample, double top,
                    double logarithm) noexcept nogil:
    """-sum over classes of coefficient times log-probability; what has no weight has no part, be it infinite."""
    cdef index first = 0, end = s.classes, c
    cdef double a, loss = 0
    if t.labels != NULL:
        if t.labels[sample] == t.ignore:
            return 0
        if t.uniform == 0:
            first = t.labels[sample]
            end = first + 1
    for c in range(first, end):
        a = coefficient(s, t, x, at, sample, c)
        if a != 0:
            loss -= a * ((x[c * s.class_step] - top) - logarithm)
    return loss


def cross_entropy_backward(cnp.ndarray dx, gradients, double factor, cnp.ndarray x, cnp.ndarray target, weight,
                           int64_t ignore, double smoothing, bint logits, index outer, index classes, index inner,
                           int threads):
    """dx of the losses, whose gradients are ``factor``, times those in ``gradients`` (in the dtype of x) if any."""
    cdef void* each = NULL if gradients is None else cnp.PyArray_DATA(gradients)
    cdef Target t = target_of(target, weight, classes, ignore, smoothing, logits)
    if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT:
        run_gradient[float](<float*>cnp.PyArray_DATA(dx), <const float*>each, factor,
                            <const float*>cnp.PyArray_DATA(x), t, lay_out(outer, classes, inner), threads)
    else:
        run_gradient[double](<double*>cnp.PyArray_DATA(dx), <const double*>each, factor,
                             <const double*>cnp.PyArray_DATA(x), t, lay_out(outer, classes, inner), threads)


cdef int run_gradient(real* dx, const real* gradients, double factor, const real* x, Target target, Shape shape,
                      int threads) except -1:
    cdef Shape s = shape
    cdef Target t = target
    cdef index i
    with nogil:
        if threads == 1 or s.blocks < 2:
            for i in range(s.blocks):
                gradient_block(&s, &t, dx, gradients, factor, x, i)
        else:
            for i in prange(s.blocks, schedule="static", num_threads=threads):
                gradient_block(&s, &t, dx, gradients, factor, x, i)
    return 0


cdef void gradient_block(const Shape* s, const Target* t, real* dx, const real* gradients, double factor, const real* x,
                         index i) noexcept nogil:
    """With a the coefficients of the target: dx = (softmax(x) sum of a - a) g, or -a g where x is no logits."""
    cdef Block b = block_at(s, i)
    cdef double g
    cdef index k
    cdef uint64_t mode = flush_denormals()
    if t.logits:
        scaled_softmax(s, t, &b, dx + b.start, gradients, factor, x)
    else:
        clear(s, &b, dx + b.start)
    for k in range(b.samples):
        g = factor if gradients == NULL else factor * gradients[b.sample + k]
        subtract_target(s, t, dx + b.start + k * s.sample_step, x, b.start + k * s.sample_step, b.sample + k, g)
    restore_denormals(mode)


cdef inline real share(const Shape* s, const Target* t, const Block* b, index k, const real* gradients, double factor,
                       const real* x, real sum) noexcept nogil:
    """What the exponentials of sample k are multiplied by."""
    cdef double total = total_of(s, t, x, b.start + k * s.sample_step, b.sample + k)
    cdef double g = factor if gradients == NULL else factor * gradients[b.sample + k]
    return <real>(total * g / sum) if total != 0 else 0 / sum


cdef void scaled_softmax(const Shape* s, const Target* t, const Block* b, real* dx, const real* gradients,
                         double factor, const real* x) noexcept nogil:
    """dx = softmax(x) sum of a g: exponentials go to dx, and are multiplied while they are near."""
    cdef real top[BLOCK]
    cdef real sum[BLOCK]
    cdef real turned[FEW_CLASSES * TURNED]
    cdef const real* source = x + b.start
    cdef index k, i, n
    if few_classes(s):
        for k in range(0, b.samples, TURNED):
            n = min(<index>TURNED, b.samples - k)
            transpose(source + k * s.classes, s.classes, n, s.classes, turned, TURNED)
            columns_exp(s, turned, <const real*>turned, TURNED, n, top, sum)
            for i in range(n):
                sum[i] = share(s, t, b, k + i, gradients, factor, x, sum[i])
            scale_columns(s, turned, TURNED, n, <const real*>sum)
            transpose(<const real*>turned, TURNED, s.classes, n, dx + k * s.classes, s.classes)
    elif s.inner == 1:
        for k in range(b.samples):
            if real is float:
                sum[k] = row_exp_f32(dx + k * s.classes, source + k * s.classes, s.classes, top)
                row_scale_f32(dx + k * s.classes, s.classes, share(s, t, b, k, gradients, factor, x, sum[k]))
            else:
                sum[k] = row_exp_f64(dx + k * s.classes, source + k * s.classes, s.classes, top)
                row_scale_f64(dx + k * s.classes, s.classes, share(s, t, b, k, gradients, factor, x, sum[k]))
    else:
        columns_exp(s, dx, source, s.inner, b.samples, top, sum)
        for k in range(b.samples):
            sum[k] = share(s, t, b, k, gradients, factor, x, sum[k])
        scale_columns(s, dx, s.inner, b.samples, <const real*>sum)


cdef inline void scale_columns(const Shape* s, real* y, index stride, index samples, const real* factor) noexcept nogil:
    if real is float:
        column_scale_f32(y, s.classes, stride, samples, factor)
    else:
        column_scale_f64(y, s.classes, stride, samples, factor)


cdef inline void clear(const Shape* s, const Block* b, real* dx) noexcept nogil:
    cdef index c
    if s.inner == 1:
        memset(dx, 0, b.samples * s.classes * sizeof(real))
        return
    for c in range(s.classes):
        memset(dx + c * s.inner, 0, b.samples * sizeof(real))


cdef double total_of(const Shape* s, const Target* t, const real* x, index at, index sample) noexcept nogil:
    cdef double total = 0
    cdef index c
    if t.labels != NULL:
        if t.labels[sample] == t.ignore:
            return 0
        if t.uniform == 0:
            return coefficient(s, t, x, at, sample, t.labels[sample])
    for c in range(s.classes):
        total += coefficient(s, t, x, at, sample, c)
    return total


cdef void subtract_target(const Shape* s, const Target* t, real* dx, const real* x, index at, index sample,
                          double g) noexcept nogil:
    cdef index first = 0, end = s.classes, c
    cdef double a
    if t.labels != NULL:
        if t.labels[sample] == t.ignore:
            return
        if t.uniform == 0:
            first = t.labels[sample]
            end = first + 1
    for c in range(first, end):
        a = coefficient(s, t, x, at, sample, c)
        if a != 0:
            dx[c * s.class_step] -= <real>(a * g)
