#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Kill a process between two of its system calls.

    killat.py PID N [STEPS]   kill PID before its N-th system call that changes something, or
                              STEPS machine instructions behind the begin of that call
    killat.py PID 0           kill nothing: name the calls, one a line, until SIGTERM

"ready" on standard output: from there on calls are counted, those of all threads together. A
program of its own, because whoever traces also waits, and the test waits for its own children.
"""

import ctypes
import os
import signal
import struct
import sys

SEIZE, CONT, INTERRUPT, SYSCALL, SINGLESTEP, SYSCALL_INFO = 0x4206, 7, 0x4207, 24, 9, 0x420E
TRACESYSGOOD, TRACECLONE = 1, 8
WALL = 0x40000000
INFO_ENTRY = 1
EVENT_STOP = 128

# (x86-64, the generic table): calls that change what somebody else can see.
CALLS = {
    "write": (1, 64), "pwrite64": (18, 68), "writev": (20, 66), "sendto": (44, 206),
    "sendmsg": (46, 211), "fsync": (74, 82), "fdatasync": (75, 83), "ftruncate": (77, 46),
    "mkdir": (83, -1), "mkdirat": (258, 34), "unlink": (87, -1), "unlinkat": (263, 35),
    "rename": (82, -1), "renameat": (264, 38), "openat": (257, 56), "mount": (165, 40),
    "setns": (308, 268), "bpf": (321, 280),
}  # fmt: skip
O_CREAT = 0o100
# Look-ups, and the collector's runs, which come by the clock.
BPF_READS = {1, 4, 7, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 23, 24, 30, 31}

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def names():
    column = 0 if os.uname().machine == "x86_64" else 1
    return {numbers[column]: name for name, numbers in CALLS.items()}


def ptrace(request, tid, addr=0, data=0):
    if libc.ptrace(request, tid, addr, data) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


class Tracer:
    def __init__(self, pid, at, steps):
        self.pid, self.at, self.steps = pid, at, steps
        self.names = names()
        self.seen = []
        self.left = None  # instructions until the end, once counting down
        self.info = ctypes.create_string_buffer(88)

    def attach(self):
        tids = [int(tid) for tid in os.listdir(f"/proc/{self.pid}/task")]
        for tid in tids:
            ptrace(SEIZE, tid, 0, TRACESYSGOOD | TRACECLONE)
            ptrace(INTERRUPT, tid)
        for tid in tids:
            os.waitpid(tid, WALL)
            ptrace(SYSCALL, tid)

    def call(self, tid):
        """The name of the changing call that tid is about to make, or None."""
        if libc.ptrace(SYSCALL_INFO, tid, ctypes.sizeof(self.info), self.info) < 0:
            return None
        if self.info.raw[0] != INFO_ENTRY:
            return None
        number, *args = struct.unpack_from("=7Q", self.info.raw, 24)
        name = self.names.get(number)
        if name == "bpf":
            return None if args[0] in BPF_READS else f"bpf {args[0]}"
        if name == "openat":
            return name if args[2] & O_CREAT else None
        return name

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        print("killed", len(self.seen), self.seen[-1], flush=True)
        raise SystemExit(0)

    def stopped(self, tid, status):
        """What tid goes on with: (request, signal)."""
        number = os.WSTOPSIG(status)
        if number == signal.SIGTRAP | 0x80:
            name = self.call(tid)
            if name and self.left is None:
                self.seen.append(name)
                if len(self.seen) == self.at:
                    if not self.steps:
                        self.kill()
                    self.left = (tid, self.steps)
        elif status >> 16 or number == signal.SIGTRAP:
            number = signal.SIGTRAP
        if self.left and self.left[0] == tid:
            self.left = (tid, self.left[1] - 1)
            if self.left[1] <= 0:
                self.kill()
            return SINGLESTEP, 0
        return SYSCALL, 0 if number & 0x7F == signal.SIGTRAP else number

    def run(self):
        while True:
            try:
                tid, status = os.waitpid(-1, WALL)
            except ChildProcessError:
                return
            if os.WIFSTOPPED(status):
                request, number = self.stopped(tid, status)
                try:
                    ptrace(request, tid, 0, number)
                except ProcessLookupError:
                    pass


def main():
    pid, at, steps = (int(word) for word in [*sys.argv[1:], "0"][:3])
    tracer = Tracer(pid, at, steps)

    def finish(_signum, _frame):
        print("\n".join(tracer.seen), flush=True)
        os._exit(0)  # the kernel lets go of the traced

    signal.signal(signal.SIGTERM, finish)
    tracer.attach()
    print("ready", flush=True)
    tracer.run()
    print("ended", flush=True)


if __name__ == "__main__":
    main()
