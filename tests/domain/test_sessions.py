"""Refresh tokens: good once, repeatable for a grace, and a copy never outlives its original."""

import itertools
import string

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from domain import sessions
from domain.sessions import PART, Session

NOW = 1_700_000_000_000
GRACE = 60_000
LIFETIME = 60 * 86_400_000

parts = st.binary(min_size=PART, max_size=PART)


def begun(secret: bytes, now: int = NOW) -> Session:
    return Session(
        id="s",
        user_id="ada",
        created_at=now,
        refreshed_at=now,
        expires_at=now + LIFETIME,
        current=sessions.hashed(secret),
    )


def use(session: Session, secret: bytes, now: int, nonce: bytes) -> sessions.Refreshed | None:
    return sessions.refresh(session, secret, nonce, now, LIFETIME, GRACE)


class Family(RuleBasedStateMachine):
    """A session, its client, whose answers get lost, and a thief who copies what it has."""

    @initialize(secret=parts)
    def begin(self, secret: bytes) -> None:
        self.now = NOW
        self.session: Session | None = begun(secret)
        self.issued = [secret]
        self.nonces = itertools.count()
        self.refreshed_at = NOW
        self.client = 0  # which of the issued ones it has
        self.thief: int | None = None

    def use(self, which: int) -> int | None:
        """The number of the secret that was answered, None when the session has ended."""
        assert self.session is not None
        done = use(self.session, self.issued[which], self.now, b"%032d" % next(self.nonces))
        newest = len(self.issued) - 1
        if which == newest:
            assert done is not None
            assert done.secret not in self.issued
            self.issued.append(done.secret)
            self.refreshed_at = self.now
            assert done.session.refreshed_at == self.now
            assert done.session.expires_at == self.now + LIFETIME
        elif which == newest - 1 and self.now - self.refreshed_at <= GRACE:
            assert done is not None
            assert done.session is self.session
            assert done.secret == self.issued[newest]
        else:
            assert done is None
            self.session = None
            return None
        self.session = done.session
        return self.issued.index(done.secret)

    alive = precondition(lambda self: self.session is not None)

    @alive
    @rule(ms=st.integers(0, 3 * GRACE))
    def wait(self, ms: int) -> None:
        self.now += ms

    @alive
    @rule()
    def client_refreshes(self) -> None:
        answered = self.use(self.client)
        if answered is not None:
            self.client = answered

    @alive
    @rule()
    def client_refreshes_and_the_answer_is_lost(self) -> None:
        self.use(self.client)

    @alive
    @rule()
    def thief_copies(self) -> None:
        self.thief = self.client

    @alive
    @precondition(lambda self: self.thief is not None)
    @rule()
    def thief_refreshes(self) -> None:
        assert self.thief is not None
        answered = self.use(self.thief)
        if answered is not None:
            self.thief = answered

    @alive
    @rule(data=st.data())
    def an_old_one_comes(self, data: st.DataObject) -> None:
        self.use(data.draw(st.integers(0, len(self.issued) - 1)))

    @precondition(lambda self: self.session is None)
    @rule()
    def client_logs_in_again(self) -> None:
        self.begin(b"again%027d" % self.now)

    @invariant()
    def nothing_shown_to_clients_is_kept(self) -> None:
        if getattr(self, "session", None) is not None:
            kept = (self.session.current, self.session.previous, self.session.nonce)
            assert not set(kept) & set(self.issued)


TestFamily = Family.TestCase
TestFamily.settings = settings(max_examples=100, stateful_step_count=25)


@given(secret=parts, nonces=st.lists(parts, min_size=2, max_size=8, unique=True), data=st.data())
def test_a_repeat_within_the_grace_gets_the_very_same_next_secret(
    secret: bytes, nonces: list[bytes], data: st.DataObject
) -> None:
    first = use(begun(secret), secret, NOW, nonces[0])
    assert first is not None
    for nonce in nonces[1:]:
        at = NOW + data.draw(st.integers(0, GRACE))
        again = use(first.session, secret, at, nonce)
        assert again is not None
        assert (again.secret, again.session) == (first.secret, first.session)


@given(secret=parts, nonce=parts, late=st.integers(GRACE + 1, LIFETIME))
def test_a_repeat_after_the_grace_ends_the_session(secret: bytes, nonce: bytes, late: int) -> None:
    first = use(begun(secret), secret, NOW, nonce)
    assert first is not None
    assert use(first.session, secret, NOW + late, nonce) is None


@given(secret=parts, nonces=st.lists(parts, min_size=2, max_size=6, unique=True), data=st.data())
def test_one_older_than_the_last_ends_the_session_even_within_the_grace(
    secret: bytes, nonces: list[bytes], data: st.DataObject
) -> None:
    session, issued = begun(secret), [secret]
    for nonce in nonces:
        done = use(session, issued[-1], NOW, nonce)
        assert done is not None
        session = done.session
        issued.append(done.secret)
    old = data.draw(st.sampled_from(issued[:-2]))
    assert use(session, old, NOW, nonces[0]) is None


@given(secret=parts, copied=st.integers(0, 3), nonces=st.data())
def test_of_a_client_and_a_thief_who_both_go_on_after_the_grace_neither_stays(
    secret: bytes, copied: int, nonces: st.DataObject
) -> None:
    session, shared = begun(secret), secret
    for _ in range(copied):
        done = use(session, shared, NOW, nonces.draw(parts))
        assert done is not None
        session, shared = done.session, done.secret
    done = use(session, shared, NOW + GRACE, nonces.draw(parts))
    assert done is not None
    assert use(done.session, shared, NOW + 2 * GRACE + 1, nonces.draw(parts)) is None


@given(secret=parts, other=parts, nonce=parts)
def test_a_secret_that_was_never_given_out_is_not_accepted(
    secret: bytes, other: bytes, nonce: bytes
) -> None:
    assume(other != secret)
    session = begun(secret)
    assert use(session, other, NOW, nonce) is None
    done = use(session, secret, NOW, nonce)
    assert done is not None
    assume(other != done.secret)
    assert use(done.session, other, NOW, nonce) is None


@given(secret=parts, nonce=parts)
def test_what_is_kept_is_no_secret_that_is_accepted(secret: bytes, nonce: bytes) -> None:
    assume(nonce != secret)
    done = use(begun(secret), secret, NOW, nonce)
    assert done is not None
    kept = done.session
    for stolen in (kept.current, kept.previous, kept.nonce):
        assert use(kept, stolen, NOW, nonce) is None


def test_an_empty_previous_secret_is_not_accepted_of_a_fresh_session() -> None:
    session = begun(b"s" * PART)
    assert use(session, b"", NOW, b"n" * PART) is None


@given(secret=parts, steps=st.lists(st.integers(0, LIFETIME - 1), min_size=1, max_size=6))
def test_each_refresh_prolongs_the_session_by_its_whole_lifetime(
    secret: bytes, steps: list[int]
) -> None:
    session, now = begun(secret), NOW
    for number, step in enumerate(steps):
        now += step
        done = use(session, secret, now, bytes([number]) * PART)
        assert done is not None
        session, secret = done.session, done.secret
        assert session.expires_at == now + LIFETIME
        assert session.created_at == NOW


# --- how tokens are written ---------------------------------------------------------------


@given(family=parts, secret=parts)
def test_a_token_reads_as_it_was_written_and_fits_into_urls(family: bytes, secret: bytes) -> None:
    token = sessions.write_token(family, secret)
    assert sessions.read_token(token) == (family, secret)
    assert set(token) <= set(string.ascii_letters + string.digits + "-_.")
    assert len(token) <= 256


@given(st.text() | st.text("ABCabc019-_.=+/ \n", max_size=100))
def test_any_other_text_is_no_token_and_no_failure(text: str) -> None:
    read = sessions.read_token(text)
    assert read is None or [len(part) for part in read] == [PART, PART]


@given(family=parts, secret=parts, at=st.integers(0, 86), char=st.characters())
def test_a_token_with_a_character_changed_is_another_or_none(
    family: bytes, secret: bytes, at: int, char: str
) -> None:
    token = sessions.write_token(family, secret)
    changed = token[:at] + char + token[at + 1 :]
    read = sessions.read_token(changed)
    assert read is None or [len(part) for part in read] == [PART, PART]


@pytest.mark.parametrize("cut", [0, 1, 42, 43, 44, 86])
def test_a_token_cut_short_is_none(cut: int) -> None:
    assert sessions.read_token(sessions.write_token(b"f" * PART, b"s" * PART)[:cut]) is None


@pytest.mark.parametrize("part", [b"", b"x" * (PART - 1), b"x" * (PART + 1), b"x" * 3 * PART])
def test_parts_of_another_length_are_no_token(part: bytes) -> None:
    assert sessions.read_token(sessions.write_token(part, part)) is None


@given(families=st.lists(parts, min_size=2, max_size=10, unique=True))
def test_a_session_id_tells_families_apart_and_gives_none_away(families: list[bytes]) -> None:
    ids = [sessions.session_id(family) for family in families]
    assert len(set(ids)) == len(ids)
    for family, session_id in zip(families, ids, strict=True):
        assert session_id not in sessions.write_token(family, family)
    assert all(1 <= len(session_id) <= 128 for session_id in ids)
