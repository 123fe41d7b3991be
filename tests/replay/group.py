"""A consumer group as a coordinator keeps it: members, generations, timers and commits."""

from __future__ import annotations

import asyncio
import enum
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from replay.wire import Code


class State(enum.Enum):
    """Where a group stands."""

    EMPTY = "no members"
    JOINING = "waiting for every member to join again"
    SYNCING = "waiting for the leader's assignment"
    STABLE = "every member has its assignment"


@dataclass(frozen=True, slots=True)
class Joined:
    """The answer to a join."""

    code: Code
    member: str = ""
    generation: int = -1
    protocol: str = ""
    leader: str = ""
    members: tuple[tuple[str, str | None, bytes], ...] = ()  # id, instance, metadata


@dataclass(frozen=True, slots=True)
class Join:
    """What a member says when it joins."""

    member: str
    instance: str | None
    session_seconds: float
    rebalance_seconds: float
    protocols: tuple[tuple[str, bytes], ...]


@dataclass(slots=True)
class Member:
    """One member, and the answers it waits for."""

    id: str
    join: Join
    assignment: bytes = b""
    joining: Callable[[Joined], None] | None = None
    syncing: Callable[[Code, bytes], None] | None = None
    session: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class Group:
    """One group. Every method that a member calls counts as a sign of life."""

    name: str
    generation: int = 0
    state: State = State.EMPTY
    members: dict[str, Member] = field(default_factory=dict)
    leader: str = ""
    protocol: str = ""
    _rebalance: asyncio.TimerHandle | None = None
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _named: set[str] = field(default_factory=set)  # ids given out, not joined with yet

    # -- what members say

    def join(self, said: Join, *, id_required: bool, answer: Callable[[Joined], None]) -> None:
        who = self._who(said)
        if who is None:
            answer(Joined(Code.UNKNOWN_MEMBER_ID))
            return
        if not said.member and said.instance is None and id_required:
            self._named.add(who)
            answer(Joined(Code.MEMBER_ID_REQUIRED, who))
            return
        self._named.discard(who)
        member = self.members.get(who)
        if member is None:
            member = self.members[who] = Member(who, said)
        elif self._nothing_new(member, said):
            member.join = said
            self._live(member)
            answer(self._joined(member))
            return
        member.join = said
        member.joining = answer
        self._quiet(member)
        if self.state is not State.JOINING:
            self._prepare()
        self._complete_if_all()

    def sync(
        self,
        who: str,
        generation: int,
        assignments: dict[str, bytes],
        answer: Callable[[Code, bytes], None],
    ) -> None:
        code = self._standing(who, generation)
        if code or self.state is State.JOINING:
            answer(code or Code.REBALANCE_IN_PROGRESS, b"")
            return
        member = self.members[who]
        self._live(member)
        if self.state is State.STABLE:
            answer(Code.NONE, member.assignment)
            return
        member.syncing = answer
        if who == self.leader:
            self.state = State.STABLE
            for other in self.members.values():
                other.assignment = assignments.get(other.id, b"")
                self._synced(other, Code.NONE)

    def heartbeat(self, who: str, generation: int) -> Code:
        code = self._standing(who, generation)
        if code:
            return code
        self._live(self.members[who])
        return Code.REBALANCE_IN_PROGRESS if self.state is State.JOINING else Code.NONE

    def leave(self, who: str) -> Code:
        if who not in self.members:
            return Code.UNKNOWN_MEMBER_ID
        self.remove(who)
        return Code.NONE

    def may_commit(self, who: str, generation: int) -> Code:
        """Whether a commit is taken: from a member of this generation, or from nobody's group."""
        if generation < 0 and self.state is State.EMPTY:
            return Code.NONE
        code = self._standing(who, generation)
        if code:
            return code
        self._live(self.members[who])
        return Code.REBALANCE_IN_PROGRESS if self.state is State.SYNCING else Code.NONE

    # -- what happens to it

    def remove(self, who: str) -> None:
        """A member is no longer one: it left, fell silent, or a test wills it."""
        member = self.members.pop(who)
        self._quiet(member)
        if member.joining:
            member.joining(Joined(Code.UNKNOWN_MEMBER_ID))
        self._synced(member, Code.UNKNOWN_MEMBER_ID)
        if self.state is not State.JOINING:
            self._prepare()
        self._complete_if_all()

    def rebalance(self) -> None:
        """Every member must join again."""
        if self.state is not State.JOINING:
            self._prepare()

    def close(self) -> None:
        if self._rebalance:
            self._rebalance.cancel()
        for member in self.members.values():
            self._quiet(member)

    # -- how

    def _who(self, said: Join) -> str | None:
        """The member's id, a new one for who has none; None for an id that nobody has."""
        if said.member:
            known = said.member in self.members or said.member in self._named
            return said.member if known else None
        if said.instance is None:
            return f"member-{next(self._numbers)}"
        for member in self.members.values():
            if member.join.instance == said.instance:
                return member.id  # a static member is back: it takes its own place
        return f"{said.instance}-{next(self._numbers)}"

    def _nothing_new(self, member: Member, said: Join) -> bool:
        return (
            self.state is State.STABLE
            and member.join.protocols == said.protocols
            and (member.id != self.leader or said.instance is not None)
        )

    def _standing(self, who: str, generation: int) -> Code:
        if who not in self.members:
            return Code.UNKNOWN_MEMBER_ID
        return Code.NONE if generation == self.generation else Code.ILLEGAL_GENERATION

    def _prepare(self) -> None:
        self.state = State.JOINING
        for member in self.members.values():
            self._synced(member, Code.REBALANCE_IN_PROGRESS)
        patience = max((m.join.rebalance_seconds for m in self.members.values()), default=0.0)
        self._rebalance = asyncio.get_running_loop().call_later(patience, self._complete)

    def _complete_if_all(self) -> None:
        if all(member.joining for member in self.members.values()):
            self._complete()

    def _complete(self) -> None:
        """A new generation, of those who are there; a static member keeps its seat."""
        if self._rebalance:
            self._rebalance.cancel()
            self._rebalance = None
        for member in [m for m in self.members.values() if not m.joining]:
            if member.join.instance is None:
                del self.members[member.id]
                self._quiet(member)
        self.generation += 1
        if not self.members:
            self.state = State.EMPTY
            return
        self.state = State.SYNCING
        present = [member for member in self.members.values() if member.joining]
        if self.leader not in {member.id for member in present}:
            self.leader = next(iter(present or self.members.values())).id
        self.protocol = self._common_protocol()
        for member in present:
            answer, member.joining = member.joining, None
            self._live(member)
            assert answer is not None
            answer(self._joined(member))

    def _common_protocol(self) -> str:
        offered = [[name for name, _ in m.join.protocols] for m in self.members.values()]
        return next(name for name in offered[0] if all(name in names for names in offered))

    def _joined(self, member: Member) -> Joined:
        everybody = tuple(
            (m.id, m.join.instance, dict(m.join.protocols)[self.protocol])
            for m in self.members.values()
        )
        return Joined(
            Code.NONE,
            member.id,
            self.generation,
            self.protocol,
            self.leader,
            everybody if member.id == self.leader else (),
        )

    def _synced(self, member: Member, code: Code) -> None:
        answer, member.syncing = member.syncing, None
        if answer:
            answer(code, b"" if code else member.assignment)

    def _live(self, member: Member) -> None:
        self._quiet(member)
        member.session = asyncio.get_running_loop().call_later(
            member.join.session_seconds, self.remove, member.id
        )

    def _quiet(self, member: Member) -> None:
        """No deadline for a sign of life: who waits for an answer is not silent."""
        if member.session:
            member.session.cancel()
            member.session = None
