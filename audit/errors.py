"""Why the auditor cannot look."""


class CannotLook(Exception):
    """Something that the audit needs is not there or cannot be read: `what`, and what to `do` about it. Exit code 2."""

    def __init__(self, what: str, do: str = "") -> None:
        super().__init__(f"{what} {do}".strip())
        self.what, self.do = what, do
