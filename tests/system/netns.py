# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Network namespaces for tests: made, entered by one thread, and removed whatever happens.

Standard library only. A socket belongs to the namespace it was made in, so one test
process can hold the sockets of a whole cluster: `with ns: socket.socket(...)`.
"""

import atexit
import ctypes
import itertools
import os
import signal
import subprocess
import threading

CLONE_NEWNET = 0x40000000
NETNS_DIR = "/run/netns"

_libc = ctypes.CDLL(None, use_errno=True)
_serial = itertools.count()
_home = threading.local()
_cleanups = []


def run(*argv, check=True, stdin=None, timeout=60):
    """Run a command; the completed process, with its output as text."""
    done = subprocess.run(
        argv, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
    )
    if check and done.returncode != 0:
        raise RuntimeError(
            f"{' '.join(map(str, argv))}: exit {done.returncode}: "
            f"{(done.stderr or done.stdout).strip()}"
        )
    return done


def cleanup_push(fn):
    """Have fn called at exit, also after SIGTERM or SIGINT; the newest first."""
    _cleanups.append(fn)
    return fn


def cleanup_pop(fn):
    """fn has run, or need not run any more."""
    if fn in _cleanups:
        _cleanups.remove(fn)


@atexit.register
def _cleanup_all():
    while _cleanups:
        fn = _cleanups.pop()
        try:
            fn()
        except Exception as err:  # one failed clean-up must not keep the others from running
            print(f"clean-up: {err}")


def _stop(signum, _frame):
    # SystemExit unwinds the fixtures and then runs the exit handlers.
    raise SystemExit(128 + signum)


def cleanup_on_signals():
    """SIGTERM and SIGHUP end this process the way SIGINT does: with its clean-up."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGHUP, _stop)


def _setns(fd):
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        err = ctypes.get_errno()
        raise OSError(err, f"setns: {os.strerror(err)}")


class Netns:
    """One named network namespace. `with ns:` moves the calling thread into it."""

    def __init__(self, prefix):
        self.name = f"{prefix}-{os.getpid()}-{next(_serial)}"
        self.path = f"{NETNS_DIR}/{self.name}"
        run("ip", "netns", "add", self.name)
        cleanup_push(self.delete)
        self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self.ip("link set lo up")

    def delete(self):
        cleanup_pop(self.delete)
        if self.fd is None:
            return
        os.close(self.fd)
        self.fd = None
        run("ip", "netns", "delete", self.name, check=False)

    def __enter__(self):
        stack = getattr(_home, "stack", None)
        if stack is None:
            stack = _home.stack = []
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(self.fd)
        except OSError:
            os.close(here)
            raise
        stack.append(here)
        return self

    def __exit__(self, *_exc):
        here = _home.stack.pop()
        try:
            _setns(here)
        finally:
            os.close(here)

    def argv(self, *argv):
        """argv, run inside; nsenter and not `ip netns exec`, which hides bpffs mounts."""
        return ["nsenter", f"--net={self.path}", *map(str, argv)]

    def run(self, *argv, **kw):
        return run(*self.argv(*argv), **kw)

    def popen(self, *argv, **kw):
        return subprocess.Popen(self.argv(*argv), **kw)

    def ip(self, *commands, check=True):
        """Several `ip` commands, each a string without the leading `ip`, in one process."""
        force = [] if check else ["-force"]
        return run(
            "ip", "-n", self.name, *force, "-batch", "-",
            stdin="\n".join(commands) + "\n", check=check,
        )  # fmt: skip

    def ip_json(self, command):
        import json

        return json.loads(run("ip", "-n", self.name, "-j", *command.split()).stdout or "[]")

    def sysctl(self, path, value=None):
        """Read or write /proc/sys/net/PATH as this namespace sees it."""
        with self, open(f"/proc/sys/net/{path}", "r+" if value is not None else "r") as file:
            if value is None:
                return file.read().strip()
            file.write(str(value))
            return None

    def ifindex(self, name):
        return self.ip_json(f"link show dev {name}")[0]["ifindex"]

    def mac(self, name):
        return self.ip_json(f"link show dev {name}")[0]["address"]

    def socket(self, family, kind, proto=0):
        import socket

        with self:
            return socket.socket(family, kind, proto)
