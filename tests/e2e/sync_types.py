"""An entity type whose merge adds: what is applied twice shows in the sum."""

from dataclasses import replace

from domain.parsing import Payload
from domain.sync.entities import EntityType, Row


class TallyData(Payload):
    total: int


def add(stored: Row, wished: Row) -> Row:
    """Both totals together, whatever the clocks say."""
    return replace(wished, data={"total": stored.data["total"] + wished.data["total"]})


TYPES = [EntityType("tally", "tallies", TallyData, {}, add)]
