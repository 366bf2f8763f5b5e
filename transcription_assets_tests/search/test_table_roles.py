"""The roles of the tables of an index, and how they are stored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets.search.table_roles import TableRoles

NAMES = st.sampled_from(["", "a", "b", "c"])
ROLES = st.builds(TableRoles, served=NAMES, building=NAMES, before=NAMES, refused=NAMES)
USED = TableRoles(served="a", building="b", before="c")


@given(ROLES)
def test_roles_survive_the_pointer_file(roles: TableRoles) -> None:
    assert TableRoles.from_pointer(roles.to_pointer(), "") == roles


def test_first_table_is_served_without_a_pointer_file() -> None:
    assert TableRoles.from_pointer({}, "first") == TableRoles(served="first")


def test_first_written_table_is_served_once_it_exists() -> None:
    begun = TableRoles().with_own("a", exists=False)
    assert begun == TableRoles(building="a")
    assert begun.with_own("a", exists=True) == TableRoles(served="a")
    assert begun.with_own("b", exists=True) == TableRoles(served="b", building="a")


@pytest.mark.parametrize(("own", "building"), [("a", "b"), ("b", "b"), ("d", "d")])
def test_table_of_another_recipe_is_built_beside_the_served_one(own: str, building: str) -> None:
    assert USED.with_own(own, exists=True) == TableRoles(served="a", building=building, before="c")


def test_switch_keeps_the_table_served_before() -> None:
    assert USED.switched("b") == TableRoles(served="b", before="a")
    assert USED.switched("d") == TableRoles(served="d", building="b", before="a")


def test_switch_by_a_user_refuses_the_table_served_before() -> None:
    refusing = USED.switched("c", is_refusal=True)
    assert refusing.refused == "a"
    assert refusing.accepting("a").refused == ""
    assert refusing.accepting("b") == refusing


def test_complete_table_is_served() -> None:
    assert USED.completed("b", "a") == TableRoles(served="b", before="a")


@pytest.mark.parametrize(
    "meanwhile",
    [
        USED.with_own("d", exists=True),
        USED.switched("c"),
        USED.switched("b", is_refusal=True).switched("a", is_refusal=True),
    ],
)
def test_table_that_lost_its_role_meanwhile_is_not_served(meanwhile: TableRoles) -> None:
    assert meanwhile.completed("b", "a") == meanwhile


def test_refused_table_is_not_served_next() -> None:
    assert USED.next_served == "b"
    assert TableRoles(served="a", building="b", refused="b").next_served == ""


@given(ROLES, st.sampled_from(["a", "b", "c"]))
def test_table_with_a_role_is_in_use(roles: TableRoles, name: str) -> None:
    assert (roles.role_of(name) != "unused") == (name in roles.in_use)


def test_served_role_comes_before_the_others() -> None:
    assert TableRoles(served="a", building="a", before="a").role_of("a") == "served"
