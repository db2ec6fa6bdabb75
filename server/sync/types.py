"""The entity types of this server: the built-in ones and the app's own."""

from importlib import import_module

from domain.sync.entities import BUILT_IN, EntityType, EntityTypes
from server.settings import Settings, naming


def entity_types(settings: Settings) -> EntityTypes:
    """The types that SYNC_TYPES (`module:NAME`) adds to the built-in ones; raises SettingsError."""
    if settings.sync_types is None:
        return EntityTypes(BUILT_IN)
    with naming("SYNC_TYPES"):
        module, _, name = settings.sync_types.partition(":")
        own = getattr(import_module(module), name)
        if not all(isinstance(kind, EntityType) for kind in own):
            raise TypeError(f"{settings.sync_types} must be a sequence of EntityType")
        return EntityTypes((*BUILT_IN, *own))
