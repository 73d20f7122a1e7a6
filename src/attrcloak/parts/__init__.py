"""Tables in parts: files too large for memory, read in batches, joined to people by id, written in the same layout."""

from attrcloak.parts.groups import GroupRows, Groups, join_people
from attrcloak.parts.location import Location, is_uri, refuse_containing, refuse_nesting
from attrcloak.parts.part import Part, Written, open_parts

__all__ = [
    "GroupRows",
    "Groups",
    "Location",
    "Part",
    "Written",
    "is_uri",
    "join_people",
    "open_parts",
    "refuse_containing",
    "refuse_nesting",
]
