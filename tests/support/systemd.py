"""A unit as systemd reads it, and its start with what of the sandbox a kernel gives without systemd."""

import ctypes
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

FIRST_UID = 61184
"""Where systemd's range for dynamic users begins."""

MOUNT = """
set -e
mount --make-rprivate /
kept=$(mktemp -d)
mount --bind "$PYTHON" "$kept"
for home in /home /root; do
    mount -t tmpfs -o mode=755 tmpfs "$home"
    case "$PYTHON" in "$home"/*) mkdir -p "$PYTHON" && mount --bind "$kept" "$PYTHON" ;; esac
done
mount --bind "$STATE" "$STATE"
mount -o remount,bind,ro /
mount -t proc -o "$PROC" proc /proc
exec "$@"
"""
EPERM, EAFNOSUPPORT = 1, 97
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
EQUAL, MASKED_EQUAL = 4, 7
PROT_WRITE, PROT_EXEC = 2, 4
PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP = 38, 24
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}


class Unit:
    """The unit of an instance, drop-ins included, below a folder that stands for the machine's `/`."""

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root, name
        template, _, self.instance = name.partition("@")
        file = root / f"etc/systemd/system/{template}@.service"
        self.file = file
        self._values: dict[str, list[str]] = {}
        for part in [file, *sorted(file.with_name(f"{file.name}.d").glob("*.conf"))]:
            self._read(part)

    def _read(self, file: Path) -> None:
        for line in file.read_text("utf-8").splitlines():
            if not line or line[0] in "#[":
                continue
            name, _, value = line.partition("=")
            if value:
                self._values.setdefault(name, []).append(value.replace("%i", self.instance))
            else:
                self._values[name] = []

    def values(self, name: str) -> list[str]:
        """Give all values of a directive."""
        return self._values.get(name, [])

    def value(self, name: str) -> str:
        """Give a directive that has one value, or the last."""
        return self._values[name][-1]

    def seconds(self, name: str) -> int:
        """Give a directive that says a time."""
        return int(self.value(name))

    def path(self, written: str) -> Path:
        """Give where a path of the unit is here."""
        assert written.startswith("/")
        return self.root / written[1:]

    @property
    def environment(self) -> dict[str, str]:
        """What systemd puts into the environment, paths as they are here."""
        given = {}
        for line in self.values("Environment"):
            for one in shlex.split(line):
                name, _, value = one.partition("=")
                given[name] = str(self.path(value)) if value.startswith("/var/") else value
        credentials = str(self.path(f"/run/credentials/{self.name}.service"))
        return {"PATH": "/usr/bin:/bin", "CREDENTIALS_DIRECTORY": credentials, **given}

    @property
    def command(self) -> list[str]:
        """What is started: `${NAME}` becomes a part of a word, `$NAME` words."""
        command = []
        for word in self.value("ExecStart").split():
            if re.fullmatch(r"\$\w+", word):
                command += self.environment[word[1:]].split()
            else:
                command.append(re.sub(r"\$\{(\w+)\}", lambda found: self.environment[found[1]], word))
        return [str(self.path(command[0])), *command[1:]]

    def start(self, log: Path) -> int:
        """Start it as a user of its own in its sandbox; gives the number of the process, which goes on by itself."""
        uid = FIRST_UID + int(self.instance) % 4000
        state = self.path(f"/var/lib/{self.value('StateDirectory')}")
        credentials = Path(self.environment["CREDENTIALS_DIRECTORY"])
        for folder in (state, credentials):
            folder.mkdir(parents=True, exist_ok=True)
            os.chown(folder, uid, uid)
        state.chmod(int(self.value("StateDirectoryMode"), 8))
        credentials.chmod(0o500)
        for one in self.values("LoadCredential"):
            name, _, source = one.partition(":")
            (credentials / name).write_bytes(self.path(source).read_bytes())
            os.chown(credentials / name, uid, uid)
            (credentials / name).chmod(0o400)
        sandbox = {
            "uid": uid,
            "folder": str(self.path(self.value("WorkingDirectory"))),
            "umask": int(self.value("UMask"), 8),
            "files": int(self.value("LimitNOFILE")),
            "calls": sorted(allowed_calls(self.values("SystemCallFilter"))),
            "families": [FAMILIES[name] for name in self.value("RestrictAddressFamilies").split()],
            "command": self.command,
        }
        proc = f"subset={self.value('ProcSubset')},hidepid={self.value('ProtectProc')}"
        start = ["unshare", "--mount", "bash", "-c", MOUNT, "mount"]
        program = Path(__file__).read_text("utf-8")  # where a home covers the file, its text is still there
        with log.open("ab") as said:
            process = subprocess.Popen(
                [*start, self.command[0], "-c", program, json.dumps(sandbox)],
                cwd="/",
                env={**self.environment, "STATE": str(state), "PROC": proc, "PYTHON": sys.base_prefix},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        return process.pid


@cache
def _group(name: str) -> frozenset[str]:
    """Give the system calls of a group such as `@system-service`."""
    printed = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter", name], capture_output=True, text=True, check=True
    ).stdout
    found: set[str] = set()
    for line in printed.splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            found |= _group(word)
        elif word and not word.startswith("#"):
            found.add(word)
    return frozenset(found)


def allowed_calls(lines: list[str]) -> set[str]:
    """Give the system calls that lines of `SystemCallFilter=` leave, the first of which allows."""
    left: set[str] = set()
    for line in lines:
        named = {call for word in line.lstrip("~").split() for call in (_group(word) if word[0] == "@" else {word})}
        left = left - named if line.startswith("~") else left | named
    return left | _group("@default")


class _Compared(ctypes.Structure):
    """One comparison of libseccomp (`struct scmp_arg_cmp`)."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


class _Filter:
    """A seccomp filter by libseccomp, which systemd itself uses."""

    def __init__(self, otherwise: int) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._filter = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(otherwise)))

    def rule(self, action: int, call: str, *compared: _Compared) -> None:
        number = self._library.seccomp_syscall_resolve_name(call.encode())
        if number < 0:
            return  # of another processor
        array = (_Compared * len(compared))(*compared)
        status = self._library.seccomp_rule_add_array(
            self._filter, ctypes.c_uint32(action), number, ctypes.c_uint(len(compared)), array
        )
        assert status == 0, (call, status)

    def load(self) -> None:
        status = self._library.seccomp_load(self._filter)
        assert status == 0, status


def _enter(sandbox: dict[str, object]) -> None:
    """Become what systemd would start: its user without capabilities, its limits, its filters, its command."""
    import resource  # noqa: PLC0415 - of the started process alone

    command, uid, files = sandbox["command"], sandbox["uid"], sandbox["files"]
    calls, families = sandbox["calls"], sandbox["families"]
    assert isinstance(command, list)
    assert isinstance(uid, int)
    assert isinstance(files, int)
    assert isinstance(calls, list)
    assert isinstance(families, list)
    libc = ctypes.CDLL(None, use_errno=True)
    os.chdir(str(sandbox["folder"]))
    os.umask(int(str(sandbox["umask"])))
    files = min(files, resource.getrlimit(resource.RLIMIT_NOFILE)[1])  # what root itself may raise is not ours to say
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    for capability in range(64):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    refused = _Filter(ALLOW)
    for family in set(range(46)) - set(families):
        refused.rule(ERRNO | EAFNOSUPPORT, "socket", _Compared(0, EQUAL, family, 0))
    both = PROT_WRITE | PROT_EXEC
    refused.rule(ERRNO | EPERM, "mmap", _Compared(2, MASKED_EQUAL, both, both))
    for call in ("mprotect", "pkey_mprotect"):
        refused.rule(ERRNO | EPERM, call, _Compared(2, MASKED_EQUAL, PROT_EXEC, PROT_EXEC))
    only = _Filter(ERRNO | EPERM)
    for call in calls:
        only.rule(ALLOW, str(call))
    refused.load()
    only.load()
    for name in ("STATE", "PROC", "PYTHON"):
        del os.environ[name]
    os.execve(command[0], command, dict(os.environ))  # noqa: S606 - the unit's own command


def runs(pid: int, root: Path) -> bool:
    """Tell whether a process of the machine below `root` is there under this number, and has not ended."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        # There is none of a process that has ended, nor while one program takes the place of another.
        return os.fsencode(root) in command if command else "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def stop(pid: int, seconds: float) -> bool:
    """Stop a process as systemd does by `KillMode=mixed`; gives whether it ended by itself in that time."""
    import select  # noqa: PLC0415 - of whoever stops

    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    signal.pidfd_send_signal(handle, signal.SIGTERM)
    ended, _, _ = select.select([handle], [], [], seconds)
    os.close(handle)
    if not ended:
        os.killpg(pid, signal.SIGKILL)
    return bool(ended)


if __name__ == "__main__":
    _enter(json.loads(sys.argv[1]))
