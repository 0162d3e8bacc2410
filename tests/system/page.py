# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Pages of the documentation: their commands are run as a reader would, and what they print compared.

A fenced block of the language `console` is what a terminal shows: a line that begins with "$ " is a
command (with "# " when the block's first line begins so: a root shell), the lines below it are its
output. Lines that end in a backslash and <<EOF documents go on. All blocks of a page run in one
shell, from top to bottom. A command that shows no output must succeed.

Comments of Markdown, which no reader sees, stand above a block, with a blank line between:

    <!-- not run: WHY -->        it cannot be run by a test
    <!-- run by FILE -->         that file of tests runs it, where more is there than a node
    <!-- numbers vary -->        every number of its output may be another one
    <!-- hidden                  commands that set the scene, run with the rest, output not compared;
    $ COMMAND                    they must succeed
    -->

What varies from run to run is compared by RULES below; a line "..." stands for any lines, and "..." in
a line for any text. A command that ends in ^C, on a line of its own, is interrupted once it has
printed what stands above it. After `towpathd ... &` the runner waits until the agent answers.

TOWPATH_PAGES=update (or this file, with --update) rewrites what is shown and not so any more; --list says
what is not run, and why.
"""

import contextlib
import os
import pathlib
import re
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import textwrap
import time

from node import BUILD, REPO, binary

GUIDE = sorted(str(path.relative_to(REPO)) for path in (REPO / "docs/guide").glob("*.md"))
PAGES = ["README.md", "docs/README.md", *GUIDE]
UPDATE = os.environ.get("TOWPATH_PAGES") == "update"

# (what it is, how it is found, what stands in its place), applied in this order.
RULES = (
    ("colours", r"\x1b\[[0-9;]*m", ""),
    ("MAC addresses", r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b", "MAC"),
    ("moments", r"\b\d{4}-\d\d-\d\dT[\d:.]+Z", "MOMENT"),
    ("times of day", r"\b\d\d:\d\d:\d\d(\.\d+)?\b", "TIME"),
    ("a kernel's release", r"\b\d+\.\d+\.\d+[-+.\w]*(?=, programs attached)", "RELEASE"),
    ("process numbers", r"\bpid \d+", "pid N"),
    ("source ports", r"(?<=:)(3276[89]|327[7-9]\d|32[89]\d\d|3[3-9]\d{3}|[45]\d{4}|60\d{3})\b", "PORT"),
    ("names of ports", r"\btw[0-9a-f]{10}\b", "twPORT"),
    ("sizes, durations, shares", r"(?<![\d.])\d+(\.\d+)? ?(ns|µs|us|ms|milliseconds|seconds|s|min|h|d|B|kB|KB|MB|GB|%)(?![\w])", "N"),
    ("fractions", r"(?<![\d.])\d+\.\d+(?![\d.])", "N"),
    ("width of columns", r"[ \t]+", " "),
    ("ends of lines", r" +$", ""),
)  # fmt: skip
NUMBERS = (r"\d+( \d{3})*", "N")  # of a block whose numbers vary

SECONDS = 40  # that a command may take
MARK = "TOWPATH_PAGE"  # in the environment of all that a shell starts
NOTICE = re.compile(r"^\S+: line \d+: +\d+ (Killed|Terminated|Done|Hangup)\b.*\n", re.M)


def normal(text, vary=False):
    """What is compared."""
    text = NOTICE.sub("", text)
    for _what, pattern, instead in RULES:
        text = re.sub(pattern, instead, text, flags=re.M)
    if vary:
        text = re.sub(NUMBERS[0], NUMBERS[1], text)
    return text.strip("\n")


def matches(shown, printed, vary=False):
    """Whether the page shows this."""
    lines = [
        r"(?:.*\n)*" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + r"\n"
        for line in normal(shown, vary).split("\n")
    ]
    got = normal(printed, vary)
    return re.fullmatch("".join(lines), got + "\n") is not None


def merged(shown, printed):
    """printed, as long as the page had it: what "..." stood for is left out again. A part behind
    "..." begins at the line that is like its first one."""
    old, new = shown.strip("\n").split("\n"), printed.strip("\n").split("\n")
    parts = [part.strip("\n").split("\n") for part in "\n".join(["", *old, ""]).split("\n...\n")]
    like = [normal(line, vary=True) for line in new]
    out, at = new[: len(parts[0])] if parts[0] != [""] else [], len(parts[0])
    for part in parts[1:]:
        out.append("...")
        if part == [""]:
            continue
        first = normal(part[0], vary=True)
        if first not in like[at:]:
            return "\n".join(new)
        at = like.index(first, at)
        out += new[at : at + len(part)]
        at += len(part)
    return "\n".join(out if len(parts) > 1 else new)


class Step:
    """A command, and what the page shows below it."""

    def __init__(self, prompt, command):
        self.prompt, self.command, self.shown = prompt, command, ""

    @property
    def interrupted(self):
        return self.shown.rstrip("\n").endswith("^C")

    @property
    def expected(self):
        """More may have come before the interrupt."""
        return self.shown.replace("^C", "...\n^C") if self.interrupted else self.shown

    def text(self):
        shown = self.shown.rstrip("\n")
        return f"{self.prompt}{self.command}\n" + (f"{shown}\n" if shown else "")


class Block:
    def __init__(self, line, indent, language, text, marks):
        self.line, self.indent, self.language = line, indent, language
        self.text, self.marks = text, marks
        self.steps = steps_read(text) if language in ("console", "hidden") else []

    def mark(self, start):
        return next((m[len(start) :].strip() for m in self.marks if m.startswith(start)), None)

    @property
    def runs(self):
        """By the page's own test."""
        here = self.language in ("console", "hidden")
        return here and self.mark("not run:") is None and self.mark("run by") is None

    @property
    def vary(self):
        return self.mark("numbers vary") is not None


def steps_read(text):
    prompt = "# " if text.startswith("# ") else "$ "
    steps, lines = [], iter(text.splitlines())
    for line in lines:
        if not line.startswith(prompt):
            if not steps:
                raise ValueError(f"output without a command: {line}")
            steps[-1].shown += line + "\n"
            continue
        command = line[len(prompt) :]
        while command.endswith("\\"):
            command += "\n" + next(lines)
        if document := re.search(r"<<'?(\w+)'?", command):
            while command.rsplit("\n", 1)[-1] != document[1]:
                command += "\n" + next(lines)
        steps.append(Step(prompt, command))
    return steps


FENCE = re.compile(r"^( *)```(\S*)$")


class Page:
    def __init__(self, name):
        self.path = REPO / name
        self.name = name
        self.text = self.path.read_text()
        self.blocks = list(self._read())

    def _read(self):
        marks, lines, number = [], self.text.splitlines(), 0
        while number < len(lines):
            line, start = lines[number], number
            if fence := FENCE.match(line):
                end = next(n for n in range(number + 1, len(lines)) if lines[n].strip() == "```")
                body = textwrap.dedent("".join(f"{line}\n" for line in lines[number + 1 : end]))
                yield Block(start, fence[1], fence[2], body, marks)
                marks, number = [], end
            elif line.strip() == "<!-- hidden":
                end = next(n for n in range(number + 1, len(lines)) if lines[n].strip() == "-->")
                yield Block(start, "", "hidden", "\n".join(lines[number + 1 : end]) + "\n", marks)
                marks, number = [], end
            elif comment := re.fullmatch(r" *<!-- (.*) -->", line):
                marks = [*marks, comment[1]]
            elif line.startswith("    ") and marks:  # an indented block, which is never run
                yield Block(start, "    ", "", line, marks)
                marks = []
            elif line.strip():
                marks = []
            number += 1

    def find(self, *words):
        """The first block that has all of these words."""
        return next(b for b in self.blocks if all(word in b.text for word in words))

    def run_by(self, name):
        """What that file of tests runs."""
        return [b for b in self.blocks if b.mark("run by") == name or b.language == "hidden"]

    def write(self):
        """The page with its blocks as they are now."""
        lines = self.text.splitlines()
        for block in reversed(self.blocks):
            if block.language != "console":
                continue
            end = next(n for n in range(block.line + 1, len(lines)) if lines[n].strip() == "```")
            body = "".join(step.text() for step in block.steps)
            lines[block.line + 1 : end] = textwrap.indent(body, block.indent).splitlines()
        self.path.write_text("\n".join(lines) + "\n")

    def run(self, shell, blocks=None):
        """The commands of blocks, or of all that run. Returns the steps that were done; when
        something is not as shown, AssertionError names all of it."""
        wrong, failed, done = [], [], []
        for block in [b for b in self.blocks if b.runs] if blocks is None else blocks:
            for step in block.steps:
                where = f"{self.name}:{block.line + 1}: {step.command}"
                try:
                    printed, status = shell.run(step)
                except TimeoutError as why:
                    failed.append(f"{where}\n{why}")
                    break
                done.append(step)
                if status and (block.language == "hidden" or not step.shown.strip()):
                    failed.append(f"{where}\nended with {status}:\n{printed}")
                elif block.language == "console" and not matches(step.expected, printed, block.vary):
                    wrong.append(f"{where}\nprinted\n{printed}\nand not\n{step.shown}")
                    step.shown = merged(step.shown, NOTICE.sub("", printed))
            else:
                continue
            break  # the shell is busy
        if UPDATE and wrong:
            self.write()
            wrong = []
        assert not wrong + failed, "\n\n".join(wrong + failed)
        return done


class Shell:
    """A shell as a reader has one. argv: what it is started by, as nsenter with its options."""

    def __init__(self, argv=(), cwd=None, env=None):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="towpath-page-"))
        self.number = 0
        self.status, writer = os.pipe()
        # Its commands come by a pipe; theirs is /dev/null.
        self.bash = subprocess.Popen(
            [*argv, "bash", "--noprofile", "--norc", "-s"], stdin=subprocess.PIPE, cwd=cwd,
            env={**(env or os.environ), MARK: str(self.dir)}, pass_fds=(writer,), text=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(writer)
        # A mount namespace that is entered begins at its root.
        self._say(f"exec 3>&{writer} {writer}>&-; cd {shlex.quote(str(cwd or os.getcwd()))}\n")

    def _say(self, text):
        self.bash.stdin.write(text)
        self.bash.stdin.flush()

    def run(self, step):
        """What the command printed, on both outputs, and its exit status."""
        self.number += 1
        script, out = self.dir / f"{self.number}", self.dir / f"{self.number}.out"
        script.write_text(step.command + "\n")
        before = children(self.bash.pid)
        self._say(f". {script} >>{out} 2>&1 </dev/null 3>&-; s=$?; echo $s >&3; (exit $s)\n")
        if step.interrupted:
            self._interrupt(step, out, before)
        status = self._wait(step, out)
        if re.search(r"\btowpathd\b.*&$", step.command):
            self.run(Step("$ ", "for i in {1..400}; do towpath status >/dev/null 2>&1 && break; sleep 0.05; done"))
        text = out.read_text(errors="replace")
        return (text + "^C\n", 0) if step.interrupted else (text, status)

    def _interrupt(self, step, out, before):
        shown = step.expected.rstrip("\n").removesuffix("^C")
        end = time.monotonic() + 10
        while time.monotonic() < end:
            if out.exists() and matches(shown, out.read_text(errors="replace")):
                break
            time.sleep(0.02)
        for pid in children(self.bash.pid) - before:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)

    def _wait(self, step, out):
        ready, _, _ = select.select([self.status], [], [], SECONDS)
        if not ready:
            text = out.read_text(errors="replace") if out.exists() else ""
            raise TimeoutError(f"not done after {SECONDS} s: {text}")
        line = os.read(self.status, 64).decode()
        return int(line) if line else self.bash.wait(SECONDS)  # the end of the shell

    def close(self):
        """What it started ends with it."""
        self.bash.kill()
        self.bash.wait()
        self.bash.stdin.close()
        os.close(self.status)
        for pid in with_environment(f"{MARK}={self.dir}"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for path in self.dir.iterdir():
            path.unlink()
        self.dir.rmdir()


def children(pid):
    try:
        return set(map(int, pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except OSError:
        return set()


def with_environment(words):
    """Processes that have this in their environment."""
    for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if words.encode() in path.read_bytes().split(b"\0"):
                yield int(path.parent.name)


def reader(folder):
    """The environment of a reader's shell, whose checkout is in the folder; the programs of the build
    come first, and sudo is there."""
    for name in ("docs", "examples", "scripts", "tests"):
        (folder / name).symlink_to(REPO / name)
    (folder / "build").symlink_to(BUILD.resolve())
    bin_dir = folder / ".bin"
    bin_dir.mkdir()
    (bin_dir / "sudo").write_text('#!/bin/sh\nexec "$@"\n')
    (bin_dir / "sudo").chmod(0o755)
    built = [str(pathlib.Path(binary(name)).parent) for name in ("towpath", "towpathd", "towpath-cni")]
    path = ":".join([*built, str(bin_dir), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "LC_ALL": "C.UTF-8", "TERM": "dumb"}


def main():
    """--list: what is not run, and why. --update: writes into the pages what their commands print."""
    here = pathlib.Path(__file__).resolve().parent
    if sys.argv[1:] == ["--list"]:
        for name in PAGES:
            for block in Page(name).blocks:
                if (why := block.mark("not run:")) is not None:
                    print(f"{name}:{block.line + 1}: {why}\n\t{block.text.splitlines()[0]}")
        return 0
    if sys.argv[1:] != ["--update"]:
        print(f"usage: {sys.argv[0]} --list | --update\n{main.__doc__}", file=sys.stderr)
        return 2
    tests = [here / name for name in ("test_pages.py", "test_cookbook.py", "test_cni_containerd.py")]
    argv = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "page or cookbook"]
    return subprocess.call([*argv, *tests], env={**os.environ, "TOWPATH_PAGES": "update"})


if __name__ == "__main__":
    sys.exit(main())
