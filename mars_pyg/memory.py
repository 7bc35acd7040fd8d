"""How a program keeps the memory that its tensors free."""

from __future__ import annotations

import ctypes

#: Parameters of glibc's ``mallopt``, from ``malloc.h``.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Keep freed memory in this process, for the next tensors of its size.

    glibc asks the system anew for each block of more than a few MiB, and gives it back
    when it is freed. So a large CPU tensor of torch is new memory each time, which the
    system clears and maps page by page as it is first written to: that can take longer
    than what is computed. After this call freed blocks are kept and used again, and the
    process stays as large as it once was.

    The setting is the whole process's, so it is for programs to make, as they start,
    and not for a library. It does nothing where the C library is not glibc.

    Returns:
        Whether the setting was made.
    """
    try:
        libc = ctypes.CDLL(None)
        # Other C libraries may have mallopt, with other parameters.
        _ = libc.gnu_get_libc_version
    except (AttributeError, OSError, TypeError):
        return False
    # No block is mapped on its own, and the heap is never cut at its end.
    return bool(libc.mallopt(_MMAP_MAX, 0) and libc.mallopt(_TRIM_THRESHOLD, -1))
