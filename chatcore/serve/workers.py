"""Several worker processes behind one address: the first process starts them, watches them, and hands on the signals.

It forks, and may: it never has a thread, a loop or a connection of its own. Whatever a worker shares with it was made
for that: the listening sockets, the mailboxes of the metrics, and a line, on which orders go to the worker and from
which each learns of the other's end.
"""

import contextlib
import gc
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

import msgspec

from chatcore import logs
from chatcore.ports import Clock
from chatcore.serve.listening import BACKLOG, bind, cannot_listen
from chatcore.serve.shared_metrics import SharedMetrics
from chatcore.serve.stopping import DRAIN, HURRY, SERVING, STOP_SIGNALS
from chatcore.settings import LogSettings, ServerSettings

MAX_WORKERS = 128

STEADY_SECONDS = 5.0
"""A worker that ends sooner than so long after its start counts as one that cannot run."""

QUICK_ENDS = 5
"""So many such ends of one worker in a row end the whole. Before each new try there is a pause, twice the last one."""

_FIRST_PAUSE_SECONDS = 0.25
_SIGNALLED = 128  # as shells tell it: 128 and the signal's number


class Place(msgspec.Struct, frozen=True):
    """What a worker was given: its number (from 1), what it listens on, its line to the first process, all metrics."""

    number: int
    sockets: list[socket.socket]
    line: socket.socket
    metrics: SharedMetrics


Work = Callable[[Place], int]


def run(server: ServerSettings, log: LogSettings, count: int, work: Work, clock: Clock) -> int:
    """Let `count` processes do `work` (serve, and give the exit status) until told to stop; give the exit status.

    0: all stopped as asked. The status of a worker where it could not start or could not stay; 128 and the signal's
    number where a signal ended it. 2: cannot listen, with one line on standard error.
    """
    try:
        sockets = bind(server.host, server.port)
    except OSError as error:
        return cannot_listen(server, error)
    with contextlib.ExitStack() as stack:
        for bound in sockets:
            stack.enter_context(bound)
        try:
            for bound in sockets:
                bound.listen(BACKLOG)
        except OSError as error:
            return cannot_listen(server, error)
        return _Workers(log, count, work, sockets, clock).run()


class _Worker:
    """One worker's place: the process that has it now, or when the next one is to."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid = 0
        self.line: socket.socket | None = None
        self.began = 0.0
        self.serving = False
        self.has_served = False
        self.quick_ends = 0
        self.due: float | None = None

    def order(self, what: bytes) -> None:
        """Tell the process what to do; one that has just ended need not know."""
        if self.line is not None:
            with contextlib.suppress(OSError):
                self.line.send(what)

    def hang_up(self) -> None:
        """Close the line."""
        if self.line is not None:
            self.line.close()
            self.line = None


class _Workers:
    """All workers, and what was asked of them."""

    def __init__(self, log: LogSettings, count: int, work: Work, sockets: list[socket.socket], clock: Clock) -> None:
        self._log, self._work, self._sockets, self._clock = log, work, sockets, clock
        self._metrics = SharedMetrics(count)
        self._workers = [_Worker(number) for number in range(1, count + 1)]
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        self._asked: list[int] = []
        self._obeyed = 0
        self._stopping = False
        self._status = 0

    def run(self) -> int:
        """Start the workers and watch them until all have ended; give the exit status."""
        self._woken.settimeout(0)
        self._waker.settimeout(0)
        self._selector.register(self._woken, selectors.EVENT_READ)
        gc.freeze()  # what is loaded by now is shared by all, as long as no collector writes into it
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in (*STOP_SIGNALS, signal.SIGCHLD):
            signal.signal(number, self._received)
        # The others wait for the first to serve: what keeps it from starting is told once, not by each of them.
        self._workers[0].due = self._clock.monotonic()
        while any(worker.pid or worker.due is not None for worker in self._workers):
            self._wait()
            self._reap()
            self._obey()
            self._start_those_due()
        return self._end()

    def _received(self, number: int, _frame: object) -> None:
        if number != signal.SIGCHLD:
            self._asked.append(number)

    def _wait(self) -> None:
        """Wait until something happens: a signal, the end of a process, a word on a line, a start that is due."""
        due = [worker.due for worker in self._workers if worker.due is not None]
        seconds = max(0.0, min(due) - self._clock.monotonic()) if due else None
        for key, _ in self._selector.select(seconds):
            with contextlib.suppress(OSError):
                said = key.fileobj.recv(4096) if isinstance(key.fileobj, socket.socket) else b""
                if key.data is None:
                    continue
                if SERVING in said:
                    self._serves(key.data)
                elif not said:
                    self._selector.unregister(key.fileobj)  # it ends; its status will tell how

    def _serves(self, worker: _Worker) -> None:
        worker.serving = worker.has_served = True
        if self._stopping:
            return
        for other in self._workers:
            if not other.has_served and not other.pid and other.due is None:
                other.due = self._clock.monotonic()

    def _reap(self) -> None:
        """Take note of all processes that have ended; also of strangers, as the first process of a container must."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                for worker in self._workers:
                    if worker.pid == pid:
                        self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: _Worker, status: int) -> None:
        """Decide what the end of a worker means; `status` is negative where a signal ended it."""
        if worker.line is not None:
            with contextlib.suppress(OSError):
                if SERVING in worker.line.recv(16):  # its last word, unless it was heard before
                    self._serves(worker)
            with contextlib.suppress(KeyError):
                self._selector.unregister(worker.line)
        worker.hang_up()
        could_start, steady = worker.has_served, worker.serving and self._lived(worker) >= STEADY_SECONDS
        worker.pid, worker.serving = 0, False
        told = status if status >= 0 else _SIGNALLED - status
        how = f"ended with status {status}" if status >= 0 else f"was killed by {_signal_name(-status)}"
        if self._stopping:
            self._status = self._status or told
            if status:
                self._say("ERROR", worker, f"worker {worker.number} {how} while it stopped")
            return
        worker.quick_ends = 0 if steady else worker.quick_ends + 1
        if (status >= 0 and not could_start) or worker.quick_ends >= QUICK_ENDS:
            again = "" if worker.quick_ends < QUICK_ENDS else f", {QUICK_ENDS} times in a row soon after its start"
            self._say("ERROR", worker, f"worker {worker.number} {how}{again}; all workers stop")
            self._stop(told or 1)
            return
        self._say("ERROR", worker, f"worker {worker.number} {how}; it is started again")
        pause = _FIRST_PAUSE_SECONDS * 2 ** (worker.quick_ends - 1) if worker.quick_ends else 0.0
        worker.due = self._clock.monotonic() + pause
        self._metrics.values.count_replaced()

    def _lived(self, worker: _Worker) -> float:
        return self._clock.monotonic() - worker.began

    def _obey(self) -> None:
        """Hand on what was asked by signals so far: the first drains, the second hurries, the third kills."""
        if self._obeyed == len(self._asked):
            return
        self._obeyed = len(self._asked)
        if not self._stopping:
            self._stop(0)
        for worker in self._workers:
            if self._obeyed > 1:
                worker.order(HURRY)
            if self._obeyed > 2 and worker.pid:  # noqa: PLR2004 - the third signal
                os.kill(worker.pid, signal.SIGKILL)

    def _stop(self, status: int) -> None:
        """Let all drain, and start none any more."""
        self._stopping = True
        self._status = status
        for worker in self._workers:
            worker.due = None
            worker.order(DRAIN)

    def _start_those_due(self) -> None:
        now = self._clock.monotonic()
        for worker in self._workers:
            if worker.due is not None and worker.due <= now:
                worker.due = None
                self._start(worker)

    def _start(self, worker: _Worker) -> None:
        ours, theirs = socket.socketpair()
        # Signals wait meanwhile: in the new process this one's handlers would write to this one's socket.
        signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP_SIGNALS, signal.SIGCHLD))
        try:
            worker.pid = os.fork()
        except OSError as error:
            ours.close()
            self._say("ERROR", worker, f"worker {worker.number} cannot be started: {error.strerror}; all workers stop")
            self._stop(1)
            return
        else:
            if not worker.pid:
                ours.close()
                self._become(worker.number, theirs)
            ours.settimeout(0)
            worker.line, worker.began = ours, self._clock.monotonic()
            self._selector.register(ours, selectors.EVENT_READ, worker)
        finally:
            theirs.close()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (*STOP_SIGNALS, signal.SIGCHLD))

    def _become(self, number: int, line: socket.socket) -> NoReturn:
        """Be a worker, in a process just begun, until its end; nothing of what the first process watches is kept."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for one in STOP_SIGNALS:
                signal.signal(one, signal.SIG_IGN)  # orders come on the line
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (*STOP_SIGNALS, signal.SIGCHLD))
            self._selector.close()
            self._woken.close()
            self._waker.close()
            for worker in self._workers:
                worker.hang_up()  # or the others would not learn of the first process's end
            status = self._work(Place(number, self._sockets, line, self._metrics))
        except BaseException:  # noqa: BLE001 - nothing may return into what the first process was doing
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _end(self) -> int:
        """Give the exit status; who was told three times dies of the last signal, as a single process would."""
        signal.set_wakeup_fd(-1)
        for number in (*STOP_SIGNALS, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        self._selector.close()
        self._woken.close()
        self._waker.close()
        self._metrics.close()
        if len(self._asked) > 2:  # noqa: PLR2004 - the third signal
            os.kill(os.getpid(), self._asked[-1])
        return self._status

    def _say(self, level: str, worker: _Worker, text: str) -> None:
        logs.write_line(self._log.level, self._log.format, level, text, {"worker": worker.number})


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
