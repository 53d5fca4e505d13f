"""False failures: records in which earlier versions blamed a candidate for what happened to the process or the machine.

They are left out wherever records are read, so that a run that is resumed evaluates these candidates again. No later
version writes such a reason: an interruption and a lack of room or memory leave no record.
"""

import re

_FALSE_REASONS = re.compile(
    r"it ended the process \d+ times"  # kill -9 and a reboot counted as crashes
    r"|the process that timed .* must live, but it ended with status -(1|2|9|15)$"  # someone ended it
    r"|\w+: \[Errno \d+\]"  # an OSError of any kind
    r"|MemoryError\b"
    r"|RuntimeError: .*(DefaultCPUAllocator: can't allocate memory|PytorchStreamWriter failed writing)"
)


def is_false_failure(reason: str) -> bool:
    """Whether the reason of a failed record or trial is none that a candidate can be blamed for.

    Examples:
        >>> is_false_failure("OSError: [Errno 28] No space left on device")
        True
        >>> is_false_failure("the loss must be finite")
        False
    """
    return _FALSE_REASONS.match(reason) is not None
