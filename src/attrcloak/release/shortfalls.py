"""What a run falls short of, a sentence each: users and requests nothing can be done about, and classes too small."""

from collections.abc import Mapping

from attrcloak.auditing import MIN_USERS
from attrcloak.data.census import Census
from attrcloak.errors import MOST_NAMED, raise_if
from attrcloak.unlearning.running import nothing_to_unlearn

PEOPLE = "the list of people"
"""What messages call the people of a table in memory, of whom no file is known."""


def shortfalls_in_memory(census: Census, dimensions: int, method: object) -> tuple[str, ...]:
    """All that is to be said before or after a run on a table in memory.

    With a list of requests it is not said who has no class: nobody asks for these, or it is said of their requests; and
    classes of users whom earlier runs moved are put aside on purpose.

    Args:
        census: of the table.
        dimensions: free columns of the table.
        method: a method; few may ask, and all be of one class, for those that learn from users who did not ask.
    """
    from_who_asked = getattr(method, "learned_from", "asked") == "asked"
    return (
        *([] if census.by_request else unknown_users(census, PEOPLE)),
        *unmet_requests(census, "the table", PEOPLE, "the list of requests"),
        *(unlearnable_classes(census, dimensions, PEOPLE) if from_who_asked else single_classes(census, PEOPLE)),
        *lone_users(census),
    )


def refuse_nothing_to_do(census: Census, people: str, *, by_kept_maps: bool = False) -> None:
    """Raise InvalidInput when no user of a table asks for anything, or all are alike in every attribute.

    Args:
        census: of the table.
        people: what messages call the people.
        by_kept_maps: whether the maps are there already; then users who are alike are moved all the same.
    """
    if not census.moving:
        raise nothing_to_unlearn(census.users, tuple(census.classes))
    alike = single_classes(census, people)
    raise_if(alike if len(alike) == len(census.classes) and not by_kept_maps else [])


def unknown_users(census: Census, people: str, where: str = "") -> list[str]:
    """Users of whom no class of any attribute is known."""
    if not census.unknown:
        return []
    most = f" ({where})" if where else ""
    return [
        f"{census.unknown} of {census.users} users have no class in {people} and stay as they were{most}; if that is "
        "more than expected, look whether ids are written alike in both"
    ]


def unmet_requests(census: Census, table: str, people: str, requests: str) -> list[str]:
    """Who asks for an attribute and cannot be moved for it: of unknown class, or not in the table."""
    said_already = 0 if census.by_request else census.unknown
    who = f"of {requests}" if census.by_request else "who are listed"
    found = [
        f"{name}: {count - said_already} users {who} have no {name} in {people}, so nothing is done about theirs; fill "
        "it in, or tell them"
        for name, count in census.unmet.items()
        if count > said_already
    ]
    elsewhere = ", ".join(f"{count} for {name}" for name, count in census.elsewhere.items() if count)
    if elsewhere:
        found.append(
            f"requests of {requests} are of users who are not in {table} ({elsewhere}), so nothing is done about them; "
            "is a file missing?"
        )
    return found


def unlearnable_classes(census: Census, dimensions: int, people: str) -> list[str]:
    """Attributes in which there is nothing to tell apart, and classes of which too little is known."""
    return [
        *single_classes(census, people),
        *single_requests(census, people),
        *small_classes(census, dimensions, people),
    ]


def single_classes(census: Census, people: str) -> list[str]:
    """Attributes in which all users of the table are alike, as far as is known."""
    found = {name: _occurring(classes) for name, classes in census.classes.items()}
    return [
        f"attribute {name!r} of {people} has one class among the users of this table, {labels[0]!r}, so there is "
        "nothing in it to unlearn; is it the right column?"
        for name, labels in found.items()
        if len(labels) == 1
    ]


def single_requests(census: Census, people: str) -> list[str]:
    """Attributes of several classes, but all who ask are of one."""
    asking = {name: _occurring(asked) for name, asked in census.asked.items()}
    return [
        f"attribute {name!r} of {people}: all who ask are of one class, {labels[0]!r}, so there is nothing to tell "
        "apart among them"
        for name, labels in asking.items()
        if len(labels) == 1 < len(_occurring(census.classes[name]))
    ]


def _occurring(classes: Mapping[str, int]) -> list[str]:
    return [label for label, users in classes.items() if users]


def too_small(census: Census, users: int) -> dict[str, dict[str, int]]:
    """Per attribute the classes of which somebody asks, but fewer than so many users, and their counts."""
    few = {
        name: {label: count for label, count in asked.items() if 0 < count < users}
        for name, asked in census.asked.items()
    }
    return {name: classes for name, classes in few.items() if classes}


def small_classes(census: Census, dimensions: int, people: str) -> list[str]:
    """Classes of which fewer users ask than the table has dimensions."""
    return [
        f"{name}: {_counted(few, census)} fewer users than the table has dimensions ({dimensions}), so their means and "
        f"covariances are rough; merge small classes in {people}, or leave {name} out"
        for name, few in too_small(census, dimensions).items()
    ]


def lone_users(census: Census) -> list[str]:
    """Combinations of classes of which a single user moves; not which, for a manifest lies beside the table."""
    if not census.lone_cells:
        return []
    return [
        f"{len(census.lone_cells)} of {census.cells} combinations of classes are of a single user each (a plan names "
        "them); where combinations have maps of their own, these users' old vectors can be told from theirs: keep the "
        "maps like a key or destroy them, merge small classes, or unlearn fewer attributes at once"
    ]


def unaudited_classes(census: Census, people: str) -> list[str]:
    """Classes of which too few users ask for an audit of them, of one that is still to come."""
    return [
        f"{name}: {_counted(few, census)} fewer than {MIN_USERS} users, so the audit leaves them out; merge small "
        f"classes in {people} to have them audited"
        for name, few in too_small(census, MIN_USERS).items()
    ]


def _counted(few: Mapping[str, int], census: Census) -> str:
    """How many classes, and the smallest of them."""
    smallest = sorted(few.items(), key=lambda entry: entry[1])[:MOST_NAMED]
    named = ", ".join(f"{label} {users}" for label, users in smallest)
    have = "are asked for by" if census.by_request else "have"
    return f"{len(few)} classes ({named}{', ...' if len(few) > len(smallest) else ''}) {have}"
