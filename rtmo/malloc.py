"""What the C library does with freed memory."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's settings, from malloc.h."""
LARGEST_MMAP_THRESHOLD = 32 << 20
"""Bytes; glibc takes no larger one."""


def keep_freed_memory() -> None:
    """Let malloc keep what this process frees for its next array.

    By default glibc returns every large block to the kernel and gets zeroed pages for the next:
    16 times the page faults, 6 % of a training step and a fifth of a loader worker's time
    (docs/experiments.md).
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
