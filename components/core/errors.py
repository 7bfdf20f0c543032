"""Four families of errors. The family is the retry policy, and its exit code tells an engine which one it is.

========== ==== =======================================================
family     exit what to do
========== ==== =======================================================
Rejected     10 the spec, the input or the model is wrong: never retry
Unavailable  20 something is down, full or busy: retry
Conflict     30 somebody else was faster: read again, then retry
Bug          70 Slipway is wrong: report it
========== ==== =======================================================
"""

from typing import ClassVar

EXIT_OK = 0
EXIT_BAD_ARGUMENTS = 2
EXIT_ROLLED_BACK = 40
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class SlipwayError(Exception):
    """An error a person can act on.

    Args:
        what: What is wrong, naming the file, field, model or address.
        expected: What would have been right.
        got: What was found instead.
        fix: What to do about it, a command where there is one.
        reason: A stable code in CAPITALS for programs, such as ``SIGNATURE_MISSING``; the family's name if empty.
    """

    exit_code: ClassVar[int] = 70
    family: ClassVar[str] = "Bug"

    def __init__(self, what: str, *, expected: str = "", got: str = "", fix: str = "", reason: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.got = got
        self.fix = fix
        self.reason = reason or self.family.upper()

    def __str__(self) -> str:
        lines = [self.what]
        lines += [
            f"  {label}: {text}"
            for label, text in (("expected", self.expected), ("got", self.got), ("do", self.fix))
            if text
        ]
        return "\n".join(lines)


class Rejected(SlipwayError):
    """The spec, the input or the model is wrong. Trying again cannot help."""

    exit_code = 10
    family = "Rejected"


class Unavailable(SlipwayError):
    """Something needed is down, full, busy or too slow. Trying again can help."""

    exit_code = 20
    family = "Unavailable"


class Conflict(SlipwayError):
    """Somebody else changed what was being changed. Read again, then try again."""

    exit_code = 30
    family = "Conflict"


class Bug(SlipwayError):
    """Slipway broke one of its own promises."""

    exit_code = 70
    family = "Bug"


FAMILIES: dict[str, type[SlipwayError]] = {kind.family: kind for kind in (Rejected, Unavailable, Conflict, Bug)}
