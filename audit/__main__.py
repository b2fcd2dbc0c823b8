"""`python -m audit`: look at topics and tables, say what is wrong, and end with 0, 1 or 2."""

import sys
from collections.abc import Sequence

from audit import places, report
from audit.auditing import run
from audit.errors import CannotLook
from audit.progress import Progress

CLEAN, FOUND, CANNOT_LOOK = 0, 1, 2


def main(argv: Sequence[str]) -> int:
    """Audit and print; the exit code."""
    given = places.parser().parse_args(argv)
    try:
        audit = run(places.places(given), given.window, Progress())
    except CannotLook as error:
        print(f"the audit cannot look: {error}", file=sys.stderr)
        return CANNOT_LOOK
    if given.out is not None:
        given.out.write_text(report.as_json(audit))
    print(report.as_json(audit) if given.json else report.as_text(audit))
    return FOUND if audit.findings else CLEAN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
