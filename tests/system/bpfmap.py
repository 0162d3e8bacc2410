# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Pinned maps, read through bpf(2) itself: what is in them, whatever the agent believes."""

import ctypes
import errno
import mmap
import os
import struct

BATCH_MAX = 1 << 16
UPDATE, OBJ_GET, INFO_BY_FD, LOOKUP_BATCH = 2, 7, 15, 24
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

    def words(self):
        """All 32-bit words of an mmapable array whose elements are whole 64-bit words."""
        size = self.value_size * self.max
        with mmap.mmap(self.fd, size, mmap.MAP_SHARED, mmap.PROT_READ) as window:
            return memoryview(window[:]).cast("I")

    def update(self, key, value):
        """One entry, as bytes."""
        keys, values = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value, len(value))
        attr = struct.pack("=IxxxxQQQ", self.fd, ctypes.addressof(keys), ctypes.addressof(values), 0)
        _bpf(UPDATE, ctypes.create_string_buffer(attr, len(attr)))

    def _lookup(self):
        """All keys and all values, each in a row."""
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
        return keys.raw[: count * self.key_size], values.raw[: count * self.value_size]

    def raw(self):
        """All values in a row; of an array: in the order of its indices."""
        return self._lookup()[1]

    def items(self):
        """[(key, value)] as bytes; no per-CPU maps."""
        keys, values = self._lookup()
        return [
            (key, value)
            for (key,), (value,) in zip(
                struct.iter_unpack(f"{self.key_size}s", keys),
                struct.iter_unpack(f"{self.value_size}s", values),
            )
        ]

    def used(self):
        """[(index, value)] of an array's elements that are not all zero."""
        step, found = 512, []
        size, values = self.value_size, self._lookup()[1]
        for first in range(0, len(values) // size, step):
            part = values[first * size : (first + step) * size]
            if part.count(0) != len(part):
                found += [
                    (first + i, value)
                    for i, (value,) in enumerate(struct.iter_unpack(f"{size}s", part))
                    if value.count(0) != size
                ]
        return found
