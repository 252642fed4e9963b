"""What the processor can do, asked of the processor itself (and of the operating system that saves its registers)."""

cdef extern from *:
    """
    #if defined(__x86_64__)
    static int cyconv_has_v3(void)
    {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi")
            && __builtin_cpu_supports("bmi2");
    }
    static int cyconv_has_v4(void)
    {
        return cyconv_has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512vl");
    }
    #else
    static int cyconv_has_v3(void) { return 0; }
    static int cyconv_has_v4(void) { return 0; }
    #endif
    """
    int cyconv_has_v3()
    int cyconv_has_v4()


def supports(str isa):
    """Whether this processor runs the kernels built for ``isa``."""
    if isa == "v3":
        return cyconv_has_v3() != 0
    if isa == "v4":
        return cyconv_has_v4() != 0
    return True
