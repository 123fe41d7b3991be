"""One worker process: what it is doing, how long it may, and how it is ended."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from streamfaas.flow.errors import ProtocolError
from streamfaas.flow.event import ANSWER_BYTES_MAX
from streamfaas.flow.handshake import Word
from streamfaas.flow.invocation import Invocation
from streamfaas.flow.outcome import Fault, Outcome, Report, Success
from streamfaas.flow.record import Instant
from streamfaas.functions import Function
from streamfaas.workers import endings
from streamfaas.workers.channel import READINESS, WROTE, Channel, Fields, channel_ends
from streamfaas.workers.endings import Ending
from streamfaas.workers.logs import Allowance, LogPipe

NEVER = Instant(math.inf)

REASON_SECONDS = 0.2
"""How long a worker that fell silent has until its exit status comes; then it is killed."""

LEAVE_SECONDS = 2.0
"""What a worker that was told to leave has for it."""

GONE_SECONDS = 2.0
"""A killed worker whose end is not reported by then means that its launcher is broken."""

_PIDFD_SIGNAL_PROCESS_GROUP = 4  # Linux 6.9
_ERROR = int(Word.ERROR)


class Call:
    """One invocation on its way."""

    __slots__ = ("future", "invocation", "started", "ticket", "worker")

    def __init__(self, invocation: Invocation, future: asyncio.Future[Outcome]) -> None:
        self.invocation = invocation
        self.future = future
        self.ticket = 0  # where it had to wait
        self.worker: Worker | None = None
        self.started = Instant(0.0)


@dataclass(frozen=True, slots=True)
class Keeper:
    """Who keeps a worker, and is told of it: it is ready; a call has its outcome and the worker is
    fit for the next; it is gone, and its call, if there was one, has ended so; it cannot be got
    rid of; it wrote a line, or too much. `wanted` tells whether anybody wants the lines, and
    `allowance` how much of them; `watch` asks that what is `due` be looked at."""

    clock: Callable[[], Instant]
    ready: Callable[[Worker], None]
    freed: Callable[[Worker, Call, Outcome], None]
    gone: Callable[[Worker, Call | None, Outcome | None], None]
    stuck: Callable[[Worker], None]
    wrote: Callable[[Worker, str], None]
    cut: Callable[[Worker, int], None]
    wanted: Callable[[Worker], bool]
    allowance: Callable[[Worker], Allowance]
    watch: Callable[[], None]


class Worker:
    """One process. It ends for the first reason that comes up, and by the same steps: it is killed
    if need be, its exit status awaited for a moment, its last output read, its keeper told."""

    __slots__ = (
        "_answer",
        "_channel",
        "_ending",
        "_group",
        "_keeper",
        "_killed",
        "_logs",
        "_pidfd",
        "_since",
        "_status",
        "call",
        "due",
        "fresh",
        "function",
        "gone",
        "init_seconds",
        "memory_bytes",
        "name",
        "number",
        "ready",
        "reason",
    )

    def __init__(self, number: int, name: str, function: Function, keeper: Keeper) -> None:
        self.number = number
        self.name = name
        self.function = function
        self.call: Call | None = None
        self.due: float = NEVER  # when what it is doing has taken too long
        self.ready = False
        self.fresh = True  # no invocation yet
        self.init_seconds: float | None = None
        self.memory_bytes = 0
        self.reason = ""  # why it ends, once it does
        self.gone = False
        self._keeper = keeper
        self._channel: Channel | None = None
        self._logs: LogPipe | None = None
        self._since = keeper.clock()
        self._pidfd = -1
        self._group = False  # no pid namespace takes its descendants along
        self._answer: Outcome | None = None  # it came, and what was written before is being read
        self._ending: Ending | None = None  # what is told of the call; else the status tells
        self._killed = False
        self._status: int | None = None

    def connect(self, loop: asyncio.AbstractEventLoop, buffer: bytearray) -> tuple[int, int, int]:
        """Makes the channel and the log pipe; gives back the worker's ends, for the caller to
        close. `OSError` where there are no more descriptors."""
        ours, theirs = channel_ends()
        try:
            reading, writing = os.pipe()
        except OSError:
            ours.close()
            theirs.close()
            raise
        self._channel = Channel(
            loop,
            ours,
            ANSWER_BYTES_MAX,
            answered=self._answered,
            heard=self._heard,
            lost=self._lost,
        )
        self._logs = LogPipe(
            loop,
            reading,
            buffer,
            self.function.log_bytes_max,
            allowance=self._keeper.allowance(self),
            write=partial(self._keeper.wrote, self),
            cut=partial(self._keeper.cut, self),
            wanted=partial(self._keeper.wanted, self),
        )
        return theirs.events.detach(), theirs.answers, writing

    def spawned(self, pidfd: int, *, group: bool) -> None:
        """It was forked; `group`: its descendants are to be ended by their process group."""
        self._pidfd = pidfd
        self._group = group
        if self._killed:
            self._kill()
        elif self.init_seconds is not None:
            self._settle_in()
        elif not self.reason:
            self._allow(self.function.init_seconds)

    def invoke(self, call: Call, now: Instant, deadline_ms: int) -> None:
        """Hands a call over. `OSError` where the process is gone and has seen nothing of it."""
        channel = self._channel
        assert channel is not None
        self.call = call
        call.worker = self
        call.started = now
        self.due = now + self.function.timeout_seconds
        try:
            channel.invoke(call.invocation, deadline_ms)
        except OSError:
            self.call = call.worker = None
            self.end("crash")
            raise

    def age_seconds(self) -> float:
        return self._keeper.clock() - self._since

    def dismiss(self, reason: str) -> None:
        """Tells it to leave; what does not in time is killed."""
        assert self._channel is not None
        if not self.reason:
            self.reason = reason
            self._allow(LEAVE_SECONDS)
            self._channel.dismiss()

    def end(self, reason: str, ending: Ending | None = None) -> None:
        """Kills it. `ending` is what is told of its call, or of its start."""
        self.reason = self.reason or reason
        self._ending = self._ending or ending
        if self._channel is not None:
            self._channel.close()  # what it still says is too late
        self._kill()

    def abandon(self) -> None:
        """Nobody waits for its call any more."""
        if self._answer is None and not self.reason:
            self.call = None
            self.end("aborted")

    def overdue(self) -> None:
        """The time for what it is doing is over."""
        if self._killed:
            self._keeper.stuck(self)
        elif self.reason:
            # silent and alive, so there is no status to tell of
            self.end(self.reason, endings.exited(self._own_fault(), None))
        elif not self.ready:
            self.end("init", endings.init_timed_out(self.function.init_seconds))
        elif not self._answered_meanwhile():
            self.end("timeout", endings.timed_out(self.function.timeout_seconds))

    def exited(self, status: int, memory_bytes: int) -> None:
        """It was reaped. What it said before it died still counts."""
        self._status = status
        self.memory_bytes = max(self.memory_bytes, memory_bytes)
        if self._channel is not None:
            self._channel.finish()
        self.fall(None)

    def fall(self, ending: Ending | None) -> None:
        """It is gone, or nothing more will be heard of it."""
        self.reason = self.reason or (self._own_reason() if ending is None else "aborted")
        self._ending = self._ending or ending
        self.due = NEVER
        if self._channel is not None:
            self._channel.close()
        if self._pidfd >= 0 and (self._status is None or self._group):
            kill_tree(self._pidfd, group=self._group)
        if self._logs is None:
            self.bury()
        else:
            self._logs.drain(self.bury)

    def ending(self) -> Ending:
        """What its end means for its call, or for whoever waited for its start."""
        if self._ending is not None:
            return self._ending
        fault = self._own_fault()
        if fault is Fault.CRASH and not self._killed and endings.killed(self._status):
            fault = Fault.MEMORY  # nobody but us and a kernel without memory sends that signal
        return endings.exited(fault, self._status)

    def bury(self) -> None:
        """Lets go of all that is held for it, and tells its keeper."""
        if self.gone:
            return
        self.gone = True
        if self._logs is not None:
            self._logs.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        call, self.call = self.call, None
        outcome = self._answer
        if call is not None and outcome is None:
            ending = self.ending()
            # of a timeout Lambda counts what was allowed, not how long the end took
            timed_out = ending.fault is Fault.TIMEOUT
            taken = self._keeper.clock() - call.started
            seconds = self.function.timeout_seconds if timed_out else taken
            init = self.init_seconds if self.fresh and call.ticket else None
            report = Report(self.name, seconds, init, self.memory_bytes)
            outcome = ending.of(call.invocation.id, report)
        self._keeper.gone(self, call, outcome)

    # -- what it says

    def _heard(self, word: Word, body: bytes) -> None:
        if word is Word.READY:
            micros, rss_kb = READINESS.unpack(body)
            self.init_seconds = micros / 1e6
            self.memory_bytes = rss_kb * 1024
            if self._pidfd >= 0:
                self._settle_in()
        else:  # an error of its init, after which it leaves by itself
            self.reason = "init"
            self._ending = endings.told(body, Fault.INIT)
            self._allow(LEAVE_SECONDS)

    def _answered(self, fields: Fields, text: bytes) -> None:
        _, word, flags, traced, _, micros, rss_kb, until, kind = fields
        producers = b""
        if traced:
            producers, text = text[:traced], text[traced:]
        call, logs = self.call, self._logs
        assert call is not None
        assert logs is not None
        self.memory_bytes = memory_bytes = rss_kb * 1024
        self.due = NEVER
        init = self.init_seconds if self.fresh and call.ticket else None
        self.fresh = False
        report = Report(self.name, micros / 1e6, init, memory_bytes, producers)
        outcome: Outcome
        if word == _ERROR:
            outcome = endings.raised(text, kind, until, report)
        elif len(text) <= ANSWER_BYTES_MAX:
            outcome = Success(text, until if until >= 0 else None, report)
        else:
            outcome = endings.too_large(ANSWER_BYTES_MAX).of(call.invocation.id, report)
        if flags & WROTE or logs.taken:
            self._answer = outcome
            logs.drain(self._free)
        else:
            self.call = None
            self._keeper.freed(self, call, outcome)

    def _free(self) -> None:
        call, outcome = self.call, self._answer
        if not self.reason and call is not None and outcome is not None:
            self.call = self._answer = None
            self._keeper.freed(self, call, outcome)

    def _settle_in(self) -> None:
        """Ready, once what its init wrote is not taken for an invocation's."""
        assert self._logs is not None
        self.due = NEVER
        self._logs.drain(self._be_ready)

    def _be_ready(self) -> None:
        if not self.reason:
            self.ready = True
            self._keeper.ready(self)

    def _answered_meanwhile(self) -> bool:
        """A loop that was held up looks at the clock before it looks at the channels."""
        assert self._channel is not None
        call = self.call
        self._channel.finish()
        return self.call is not call or self._answer is not None or bool(self.reason)

    # -- its end

    def _lost(self, error: ProtocolError | None) -> None:
        if error is not None:
            text = f"Runtime broke the protocol: {error}"
            self.end("protocol", Ending(self._own_fault(), "Runtime.ExitError", text))
        elif not self._killed:
            self.reason = self.reason or self._own_reason()
            self._allow(REASON_SECONDS)

    def _allow(self, seconds: float) -> None:
        self.due = self._keeper.clock() + seconds
        self._keeper.watch()

    def _kill(self) -> None:
        self._killed = True
        self._allow(GONE_SECONDS)
        if self._pidfd >= 0:
            kill_tree(self._pidfd, group=self._group)

    def _own_fault(self) -> Fault:
        return Fault.CRASH if self.ready else Fault.INIT

    def _own_reason(self) -> str:
        return "crash" if self.ready else "init"


def kill_tree(pidfd: int, *, group: bool) -> None:
    """Ends a worker and what hangs on it: never by a number, which may be somebody else's by then.

    Where it is the first process of a namespace, the kernel ends all that is in there with it.
    Elsewhere (`group`) its process group goes, and what left the group survives.
    """
    if group:
        _kill_group(pidfd)
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def _kill_group(pidfd: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL, None, _PIDFD_SIGNAL_PROCESS_GROUP)
    except ProcessLookupError:
        return
    except OSError:  # an older kernel; the number is good as long as the process is not reaped
        with contextlib.suppress(OSError):
            pid = _number(pidfd)
            if pid > 1 and os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)


def _number(pidfd: int) -> int:
    """The number of a process here, whatever namespace it has one in; -1 once it is reaped."""
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "Pid":
            return int(value)
    return -1
