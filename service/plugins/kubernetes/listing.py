"""Everything that is read of a cluster, listed once: a ``List`` as ``kubectl get -o json`` prints one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.plugins.kubernetes.cache import ALL
from service.plugins.kubernetes.connection import ApiRefusedError
from service.plugins.kubernetes.fields import Object, text
from service.plugins.kubernetes.watching import FORBIDDEN, NOT_FOUND, PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.plugins.kubernetes.connection import Connection


def listed(connection: Connection) -> Object:
    """The objects of all kinds; of optional kinds those that there are and that may be read. Raises SchedulerError."""
    items: list[dict[str, Any]] = []
    for resource in ALL:
        try:
            found = list(pages(connection, resource.path, {}))
        except ApiRefusedError as error:
            if resource.optional and error.status in {NOT_FOUND, FORBIDDEN}:
                continue
            raise
        kind = resource.kind.partition(" ")[0]
        items += [{"kind": kind} | dict(one) for one in found]  # the server leaves the kind of a list's items out
    return {"apiVersion": "v1", "kind": "List", "items": items}


def pages(connection: Connection, path: str, query: dict[str, str]) -> Iterator[Object]:
    """All items of a list, however many pages it takes; one page is in memory at a time. Raises as ``Connection.get``."""
    asked = {"limit": str(PAGE)} | query
    while True:
        page = connection.get(path, asked)
        yield from page.get("items") or ()
        following = text(page, "metadata", "continue")
        if not following:
            return
        asked |= {"continue": following}
