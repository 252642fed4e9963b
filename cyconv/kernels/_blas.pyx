"""The threads of the BLAS that SciPy was built with: one while ours run, as many as before afterwards.

`scipy.linalg.cython_blas` gives no way to say how many threads a product may use, so the library behind it is asked
itself: the shared object of `cython_blas` is looked up by an address in it, and the functions that set threads among
its dependencies.

* OpenBLAS with its own threads has one number for the process. (So it is with `openblas_set_num_threads_local`
  too, for all its name.) It is set to 1 when the first of our calls begins and set back when the last one ends.
* OpenBLAS on OpenMP and MKL have a number for each thread: every task of ours sets it and sets it back.

A BLAS with neither keeps its threads, and the kernels then run their tasks one after another.
"""

cdef extern from *:
    """
    #include <stddef.h>
    typedef struct {
        int (*get)(void);
        void (*set)(int);
        int (*exchange)(int);
        const char *library;
        int per_thread;
    } cyconv_control;

    #if defined(_WIN32)
    static cyconv_control cyconv_find_control(void *inside) { cyconv_control none = {0}; (void)inside; return none; }
    static const char *cyconv_find_config(void *inside) { (void)inside; return ""; }
    #else
    #include <dlfcn.h>
    static void *cyconv_handle(void *inside)
    {
        Dl_info where;
        return dladdr(inside, &where) && where.dli_fname ? dlopen(where.dli_fname, RTLD_LAZY | RTLD_NOLOAD) : NULL;
    }

    /* name with each prefix and suffix under which OpenBLAS is built */
    static void *cyconv_openblas(void *handle, const char *name)
    {
        static const char *const prefixes[] = {"scipy_openblas_", "openblas_"}, *const suffixes[] = {"", "64_"};
        char full[64];
        for (int i = 0; i < 4; i++) {
            snprintf(full, sizeof full, "%s%s%s", prefixes[i / 2], name, suffixes[i % 2]);
            void *found = dlsym(handle, full);
            if (found)
                return found;
        }
        return NULL;
    }

    static const char *cyconv_library(void *address)
    {
        Dl_info where;
        return address && dladdr(address, &where) && where.dli_fname ? where.dli_fname : "";
    }

    static cyconv_control cyconv_find_control(void *inside)
    {
        cyconv_control found = {0};
        void *handle = cyconv_handle(inside), *set;
        if (!handle)
            return found;
        if ((set = cyconv_openblas(handle, "set_num_threads")) != NULL) {
            int (*parallel)(void) = (int (*)(void))cyconv_openblas(handle, "get_parallel");
            if (parallel && parallel() == 2) {
                found.get = (int (*)(void))dlsym(handle, "omp_get_max_threads");
                found.set = (void (*)(int))dlsym(handle, "omp_set_num_threads");
                found.per_thread = 1;
            } else {
                found.get = (int (*)(void))cyconv_openblas(handle, "get_num_threads");
                found.set = (void (*)(int))set;
            }
        } else if ((set = dlsym(handle, "MKL_Set_Num_Threads_Local")) != NULL) {
            found.exchange = (int (*)(int))set;
            found.per_thread = 1;
        }
        found.library = cyconv_library(set);
        dlclose(handle); /* the library stays: cython_blas holds it */
        return found;
    }

    static const char *cyconv_find_config(void *inside)
    {
        void *handle = cyconv_handle(inside);
        if (!handle)
            return "";
        char *(*config)(void) = (char *(*)(void))cyconv_openblas(handle, "get_config");
        dlclose(handle);
        return config ? config() : "";
    }
    #endif
    """
    ctypedef struct Control "cyconv_control":
        int (*get)() noexcept nogil
        void (*set)(int) noexcept nogil
        int (*exchange)(int) noexcept nogil
        const char* library
        int per_thread

    Control cyconv_find_control(void* inside)
    const char* cyconv_find_config(void* inside)

cdef Control control = cyconv_find_control(<void*>sgemm)
controlled = control.exchange != NULL or (control.get != NULL and control.set != NULL)

#: How BLAS's threads are held: "process", "thread" or "" (not at all).
CONTROL = "" if not controlled else "thread" if control.per_thread else "process"
#: Shared object that answered, and what OpenBLAS says of itself; empty where unknown.
LIBRARY = control.library.decode() if control.library != NULL else ""
CONFIG = cyconv_find_config(<void*>sgemm).decode()

cdef extern from "lock.h" nogil:
    void lock_take() noexcept
    void lock_give() noexcept
    int unlock_after_fork() noexcept

unlock_after_fork()

cdef int holders = 0
cdef int threads_before = 1


def num_threads():
    """Return the number of threads that BLAS uses at present when this thread calls it, or 0 where that is unknown."""
    return control.get() if control.get != NULL else 0


def set_num_threads(int n):
    """Set the number that `num_threads` returns, where the library has such a number."""
    if control.set != NULL:
        control.set(n)


cdef void hold() noexcept nogil:
    """From here to `release`, BLAS called by any of our threads uses one thread."""
    global holders, threads_before
    if controlled and not control.per_thread:
        lock_take()
        if holders == 0:
            threads_before = control.get()
            if threads_before != 1:
                control.set(1)
        holders += 1
        lock_give()


cdef void release() noexcept nogil:
    global holders
    if controlled and not control.per_thread:
        lock_take()
        holders -= 1
        # Somebody else may have set another number meanwhile: then it is theirs that stays.
        if holders == 0 and threads_before != 1 and control.get() == 1:
            control.set(threads_before)
        lock_give()


cdef int mute() noexcept nogil:
    """Called by each thread before it calls BLAS; what it returns goes to `unmute`."""
    cdef int before = 1
    if control.per_thread:
        if control.exchange != NULL:
            return control.exchange(1)
        if control.get != NULL and control.set != NULL:
            before = control.get()
            if before != 1:
                control.set(1)
    return before


cdef void unmute(int before) noexcept nogil:
    if control.per_thread:
        if control.exchange != NULL:
            control.exchange(before)
        elif before != 1 and control.get != NULL and control.set != NULL:
            control.set(before)
