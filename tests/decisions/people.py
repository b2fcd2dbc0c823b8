"""Who of a synthetic world has a story: erased and back, erased and gone, erased later, blocked."""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from lakehouse.registry import registry
from lakehouse.single import read


@dataclass(frozen=True)
class People:
    """Customers of the world, and a card on a block list."""

    returning: str
    """Erased, and back before the switch and after it."""
    gone: str
    """Erased; neither they nor their card, device or address come again after the switch."""
    later: str
    """Erased after the switch; paid on both sides of it."""
    blocked: str
    """A card that pays on both sides."""


NAMES = ("card_number", "customer_id", "device_id", "ip_address", "customer_email")
WITH_PEOPLE = [registry().latest(kind) for kind in ("payment", "authorisation", "label")]


def records(values):
    """(place, record) of everything that names people and can be read."""
    out = []
    for at, value in enumerate(values):
        for schema in WITH_PEOPLE:
            if value[:5] == schema.prefix:
                with suppress(Exception):  # one of the world's faulty records
                    out.append((at, read(schema, value)))
    return out


def named(found):
    """Everybody and everything that records name."""
    return {(name, one[name]) for _, one in found for name in NAMES if one.get(name)}


def chosen(values, half):
    """People for whom the story can be told, by what they pay, and the place of the last payment of who leaves."""
    found = records(values)
    before, after = ([r for r in found if (r[0] < half) == early] for early in (True, False))
    third, behind = half // 3, named(after)

    def often(name, some):
        return [who for who, _ in Counter(one[name] for _, one in some if one.get(name)).most_common()]

    def of(who, some):
        return [r for r in some if r[1]["customer_id"] == who]

    def leaves(who):
        theirs = of(who, before)
        return len(theirs) > 2 and theirs[-1][0] < half - 80 and not named(theirs) & behind

    def returns(who):
        early = [r for r in of(who, before) if r[0] < third]
        others = [r for r in before if r not in early]
        return early and of(who, after) and of(who, others) and named(early) & behind <= named(others)

    gone = next(who for who in often("customer_id", before) if leaves(who))
    returning = next(who for who in often("customer_id", after) if returns(who))
    later = next(who for who in often("customer_id", after) if who != returning and len(of(who, before)) > 2)
    theirs = named([r for who in (gone, returning, later) for r in of(who, found)])
    cards = often("card_number", before)
    blocked = next(c for c in often("card_number", after) if c in cards and ("card_number", c) not in theirs)
    return People(returning, gone, later, blocked), of(gone, before)[-1][0]
