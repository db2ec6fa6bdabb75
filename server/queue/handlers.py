"""What the queue can do: a registered model and function for each method of a path.

An app adds its own the same way (docs/queue.md has a worked example).
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from domain.errors import AppError, Code
from domain.parsing import Payload, parse
from domain.profiles import ProfileBody, parse_profile
from domain.queue import USERS, Endpoints, Item, Method
from domain.resources import BUILT_IN, Resource, without_bookkeeping
from server.accounts.profiles import ProfileService
from server.resources.service import ResourceService, Versions
from server.settings import Settings
from storage.units import Unit

Result = Mapping[str, Any]
Run = Callable[[Unit, Item, Payload], Awaitable[Result]]
"""Takes the unit of work, the item and its parsed data; answers what the item's `responseData` is.

It may be run again for the same item after a crash: what it does in the unit has not happened then,
anything else it must do so that twice is once. Raises AppError to fail.
"""


@dataclass(frozen=True, slots=True)
class QueueHandler:
    """What `method` on `path` does with data of this model."""

    path: str
    method: Method
    model: type[Payload]
    run: Run

    def parse(self, item: Item) -> Payload:
        """The item's data; raises AppError naming the field."""
        try:
            return parse(self.model, without_bookkeeping(item.data))
        except AppError as error:
            raise error.inside("data") from None


class Handlers:
    """The registered handlers."""

    def __init__(self, handlers: Iterable[QueueHandler]) -> None:
        self._handlers: dict[tuple[str, Method], QueueHandler] = {}
        for handler in handlers:
            place = handler.path, handler.method
            if place in self._handlers:
                raise ValueError(f"{handler.method} {handler.path} is registered twice")
            self._handlers[place] = handler
        paths = {path for path, _ in self._handlers}
        self.endpoints = Endpoints(
            {
                path: frozenset(method for at, method in self._handlers if at == path)
                for path in sorted(paths)
            }
        )

    def find(self, item: Item) -> QueueHandler:
        """The handler of an item; raises AppError when it is registered no more."""
        handler = self._handlers.get((item.path, item.method))
        if handler is None:
            raise AppError(Code.NOT_FOUND, f"There is no {item.method} {item.path} any more")
        return handler


def built_in(resources: ResourceService, profiles: ProfileService) -> list[QueueHandler]:
    """Those of the resources, and of one's own profile."""

    def versions(item: Item) -> Versions:
        return None if item.base_version is None else (item.base_version,)

    async def post(kind: Resource, unit: Unit, item: Item, body: Payload) -> Result:
        return (await resources.create(unit, kind, item.target_id, body)).shown()

    async def put(kind: Resource, unit: Unit, item: Item, body: Payload) -> Result:
        changed = await resources.change(unit, kind, item.target_id, body, versions(item))
        return changed.shown()

    async def delete(kind: Resource, unit: Unit, item: Item, _: Payload) -> Result:
        try:
            removed = await resources.remove(unit, kind, item.target_id, versions(item))
        except AppError as error:
            if error.code is not Code.NOT_FOUND:
                raise
            return {"id": item.target_id, "deleted": True}  # it is gone, as was wished
        return {"id": removed.id, "deleted": True}

    async def profile(unit: Unit, item: Item, _: Payload) -> Result:
        if item.target_id != unit.user_id:
            raise AppError(Code.FORBIDDEN, "Only your own profile")
        # With a time, so that a repeat after a crash does not undo a newer change.
        data = {name: value for name, value in item.data.items() if name != "_id"}
        wish = parse_profile(unit.user_id, {"updatedAt": item.created_at, **data})
        return (await profiles.update(unit.user_id, wish, None)).whole()

    handlers = [
        QueueHandler(f"/api/{kind.name}", method, kind.model, partial(run, kind))
        for kind in BUILT_IN
        for method, run in ((Method.POST, post), (Method.PUT, put), (Method.DELETE, delete))
    ]
    return [*handlers, QueueHandler(USERS, Method.PUT, ProfileBody, profile)]


def own_handlers(settings: Settings) -> list[QueueHandler]:
    """Those of the app, which QUEUE_HANDLERS (`module:NAME`) names."""
    if settings.queue_handlers is None:
        return []
    module, _, name = settings.queue_handlers.partition(":")
    own = list(getattr(import_module(module), name))
    if not all(isinstance(handler, QueueHandler) for handler in own):
        raise TypeError(f"{settings.queue_handlers} must be a sequence of QueueHandler")
    return own
