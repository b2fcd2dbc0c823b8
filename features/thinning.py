"""Which snapshots of the history driver stay: the newest ones, and ever fewer the further back."""

from collections.abc import Collection, Iterable


def superfluous(positions: Iterable[int], kept: int, never: Collection[int] = ()) -> list[int]:
    """The positions of snapshots that nobody needs any more, the newest first; those in `never` are none of them.

    The newest `kept` stay, and behind them the oldest of every distance from 2^n to 2^(n+1) to the newest. So their
    number grows with the logarithm of the log's length, the first one stays, and where runs are alike whoever begins at
    a position of the past takes some times as many records as lie behind it, no more.
    """
    newest_first = sorted(positions, reverse=True)
    oldest: dict[int, int] = {}
    for position in newest_first[kept:]:
        oldest[(newest_first[0] - position).bit_length()] = position
    stays = {*newest_first[:kept], *oldest.values(), *never}
    return [position for position in newest_first if position not in stays]
