"""A user acts on themselves only; `service` and `admin` act on anyone."""

import pytest
from hypothesis import given

from domain.errors import AppError, Code
from domain.identity import Identity, Role, refuse_query_token
from tests.domain.strategies import any_json, fault_of


@pytest.mark.parametrize("role", Role)
def test_everyone_acts_on_themselves(role: Role) -> None:
    identity = Identity("ann", role, 0)
    assert identity.acting_for(None) == "ann"
    assert identity.acting_for("ann") == "ann"


@pytest.mark.parametrize("role", [Role.SERVICE, Role.ADMIN])
def test_service_and_admin_act_on_anyone(role: Role) -> None:
    assert Identity("ann", role, 0).acting_for("bob") == "bob"


@pytest.mark.parametrize("other", ["bob", "Ann", "ann ", ""])
def test_a_user_acts_on_nobody_else(other: str) -> None:
    with pytest.raises(AppError) as caught:
        Identity("ann", Role.USER, 0).acting_for(other)
    assert caught.value.code == Code.FORBIDDEN


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("other", [None, "ann", "bob", "Ann"])
def test_who_may_act_is_who_is_not_refused(role: Role, other: str | None) -> None:
    identity = Identity("ann", role, 0)
    assert identity.may_act_for(other) == (fault_of(identity.acting_for, other) is None)


@pytest.mark.parametrize("name", ["token", "access_token", "TOKEN", "jwt", "Auth", "authorization"])
def test_a_token_in_a_query_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(AppError) as caught:
        refuse_query_token(["EIO", name])
    assert caught.value.code == Code.TOKEN_IN_QUERY
    assert not caught.value.retryable


def test_other_queries_pass() -> None:
    refuse_query_token([])
    refuse_query_token(["EIO", "transport", "t", "sid", "tokens", "author"])


@given(any_json)
def test_an_unknown_role_counts_as_user(claim: object) -> None:
    if claim not in ("service", "admin"):
        assert Role.of(claim) is Role.USER


def test_the_three_roles_are_known() -> None:
    assert [Role.of(name) for name in ("user", "service", "admin", "ADMIN", None, ["admin"])] == [
        Role.USER,
        Role.SERVICE,
        Role.ADMIN,
        Role.USER,
        Role.USER,
        Role.USER,
    ]
