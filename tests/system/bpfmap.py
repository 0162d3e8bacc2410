# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Pinned maps, read through bpf(2) itself: what is in them, whatever the agent believes."""

import ctypes
import errno
import mmap
import os
import struct

BATCH_MAX = 1 << 16
OBJ_GET, INFO_BY_FD, LOOKUP_BATCH = 7, 15, 24
_NUMBER = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command, attr):
    result = _libc.syscall(_NUMBER, command, attr, len(attr))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"bpf({command})")
    return result


class Map:
    """An open map. Use as a context manager."""

    def __init__(self, path):
        text = ctypes.create_string_buffer(str(path).encode())
        attr = struct.pack("=QII", ctypes.addressof(text), 0, 0)
        self.fd = _bpf(OBJ_GET, ctypes.create_string_buffer(attr, len(attr)))
        info = ctypes.create_string_buffer(80)
        attr = struct.pack("=IIQ", self.fd, len(info), ctypes.addressof(info))
        _bpf(INFO_BY_FD, ctypes.create_string_buffer(attr, len(attr)))
        self.key_size, self.value_size, self.max = struct.unpack_from("=III", info.raw, 8)

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        os.close(self.fd)

    def mapped(self):
        """All bytes of an mmapable array."""
        size = (self.value_size + 7) // 8 * 8 * self.max
        with mmap.mmap(self.fd, size, mmap.MAP_SHARED, mmap.PROT_READ) as window:
            return window[:]

    def items(self):
        """[(key, value)] as bytes; no per-CPU maps."""
        room = min(self.max, BATCH_MAX)
        keys = ctypes.create_string_buffer(self.key_size * room)
        values = ctypes.create_string_buffer(self.value_size * room)
        batch = ctypes.create_string_buffer(64)
        attr = ctypes.create_string_buffer(
            struct.pack(
                "=QQQQIIQQ", 0, ctypes.addressof(batch), ctypes.addressof(keys),
                ctypes.addressof(values), room, self.fd, 0, 0,
            ), 56,
        )  # fmt: skip
        try:
            _bpf(LOOKUP_BATCH, attr)
        except OSError as err:
            if err.errno != errno.ENOENT:  # ENOENT: that was all
                raise
        (count,) = struct.unpack_from("=I", attr.raw, 32)
        cut = struct.Struct(f"{self.key_size}s").iter_unpack(keys.raw[: count * self.key_size])
        values = struct.Struct(f"{self.value_size}s").iter_unpack(
            values.raw[: count * self.value_size]
        )
        return [(key, value) for (key,), (value,) in zip(cut, values)]
