"""Torch, OpenCV and the C library as training needs them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def settings(threads: int) -> Iterator[None]:
    """Deterministic, with so many threads, freed memory kept; put back afterwards (but for the C library)."""
    import cv2

    torch_threads, cv_threads = torch.get_num_threads(), cv2.getNumThreads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    _keep_memory()
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(torch_threads)
        cv2.setNumThreads(cv_threads)
        torch.use_deterministic_algorithms(deterministic)


def _keep_memory() -> None:
    """Tell glibc to keep freed memory: mapping every activation anew made a step nearly twice as long."""
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library: slower, not wrong
        return
    top_pad, trim_threshold, mmap_max = -2, -1, -4
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 2**28)
