"""Roles of the tables of an index: served, under construction, kept or refused. Pure.

`Index` stores them in the pointer file `serving.json`, whose keys are `table` (the served one), `building`, `before`
and `refused`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

KEYS = ("table", "before", "building", "refused")


@dataclass(frozen=True, slots=True)
class TableRoles:
    """Names of the tables with a role, "" for a role that no table has.

    `served` answers searches. `building` is filled beside it, and served once it is complete. `before` was served last,
    and is kept so that a switch can be undone. A user has switched away from `refused`: it is served again only if the
    user says so.
    """

    served: str = ""
    building: str = ""
    before: str = ""
    refused: str = ""

    @classmethod
    def from_pointer(cls, pointer: Mapping[str, str], first: str) -> "TableRoles":
        """Return the roles in the content of the pointer file; `first` is served if it names no table."""
        return cls(
            served=pointer.get("table") or first,
            building=pointer.get("building", ""),
            before=pointer.get("before", ""),
            refused=pointer.get("refused", ""),
        )

    def to_pointer(self) -> dict[str, str]:
        """Return the content of the pointer file, without the roles that no table has."""
        roles = {"table": self.served, "before": self.before, "building": self.building, "refused": self.refused}
        return {role: name for role, name in roles.items() if name}

    @property
    def in_use(self) -> frozenset[str]:
        """The tables that `maintain` must keep."""
        return frozenset((self.served, self.building, self.before)) - {""}

    @property
    def next_served(self) -> str:
        """The table that `maintain` serves once it is complete, "" if there is none."""
        return self.building if self.building != self.refused else ""

    def role_of(self, name: str) -> str:
        """Return `served`, `before`, `building` or `unused`, the first that applies."""
        roles = {self.building: "building", self.before: "before", self.served: "served"}
        return roles.get(name, "unused")

    def with_own(self, table: str, *, exists: bool) -> "TableRoles":
        """Assign a role to the table that a process writes to: served if no table is and it exists, else `building`."""
        if not self.served and exists:
            return replace(self, served=table, building=self.building if self.building != table else "")
        return self if table in {self.served, self.building} else replace(self, building=table)

    def completed(self, building: str, served: str) -> "TableRoles":
        """Serve `building`, which has all recordings of `served`, unless either has changed its role meanwhile."""
        return self.switched(building) if (self.next_served, self.served) == (building, served) else self

    def switched(self, table: str, *, is_refusal: bool = False) -> "TableRoles":
        """Serve this table; with `is_refusal` the one served until now is refused."""
        if self.served == table:
            return self
        return TableRoles(
            served=table,
            before=self.served,
            building=self.building if self.building != table else "",
            refused=self.served if is_refusal else "",
        )

    def accepting(self, table: str) -> "TableRoles":
        """Refuse this table no longer."""
        return replace(self, refused="") if self.refused == table else self
