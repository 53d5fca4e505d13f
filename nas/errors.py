"""Errors: everything this package raises on purpose, and how an exception becomes one line of text.

    NasError
    |-- UserError(ValueError)          an input is wrong; the message says what to do
    |   |-- ConfigError                a flag, a field of a TOML file, or a run folder of another configuration
    |   |-- DataError                  a data set's file, row or label
    |   |-- UnknownMemberError         a word that names no member of a family
    |   `-- MissingPackageError(ImportError)   an optional package; the message ends with the command that installs it
    `-- CandidateError(RuntimeError)   one candidate fails; the search continues without it
        |-- BuildError                 the network cannot be built or pruned
        |-- ExportError                the file cannot be written, or the ONNX checker rejects it
        |-- ParityError                torch and the runtime disagree on the exported file
        |-- MeasureError               the device gives no latency that can be trusted
        |   |-- UnreachableError       there is no connection to the device
        |   `-- WorkerDeathError       the process that timed a file ended
        `-- TrainError                 the loss is not finite

The command line prints the message of a `NasError` as one line and exits with status 2, without a traceback. It does
the same for errors of the operating system and of memory, see `describe_system_error`; where the machine lacks room or
memory, which no other input would change, the status is 1.
"""

import errno
import os
from typing import TypeGuard

MAX_LINE_LENGTH = 300
"""Characters of one line, enough for a path and a reason."""


SYSTEM_ERRNOS = frozenset(
    {
        errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO,
        errno.ESTALE,
    }
)  # fmt: skip
"""Numbers of an `OSError` that tell of the machine and not of the work: no room, no files, no memory, no disk."""
_SYSTEM_PHRASES = {number: os.strerror(number) for number in SYSTEM_ERRNOS}
_MEMORY_PHRASES = ("DefaultCPUAllocator: can't allocate memory", "std::bad_alloc", "Failed to allocate memory")
"""What torch, C++ and ONNX Runtime say where Python would raise a `MemoryError`."""


class NasError(Exception):
    """Base of everything this package raises on purpose.

    Examples:
        >>> import nas
        >>> try:
        ...     nas.make_config(target="cpu", epochs=0)
        ... except nas.NasError as error:
        ...     print(error)
        epochs must be greater than 0, but got 0
    """


class UserError(NasError, ValueError):
    """An input is wrong. The message says what must hold, what was got and what to do."""


class ConfigError(UserError):
    """A flag, a field of a configuration file or a run folder is invalid."""


class DataError(UserError):
    """A data set's file, row or label is invalid. The message names file, row and reason."""


class UnknownMemberError(UserError):
    """A word names no member of its family. The message lists the members."""


class MissingPackageError(UserError, ImportError):
    """An optional package is not installed. The message ends with the command that installs it."""


class CandidateError(NasError, RuntimeError):
    """One candidate fails. The search records the reason and continues."""


class BuildError(CandidateError):
    """The candidate's network cannot be built or pruned."""


class ExportError(CandidateError):
    """The candidate's ONNX file cannot be written, or the ONNX checker rejects it."""


class ParityError(CandidateError):
    """Torch and the runtime disagree on the exported file. The message names the first diverging node."""


class MeasureError(CandidateError):
    """The device gives no latency that can be trusted.

    Attributes:
        log_lines: the last lines written by the device's tool; empty without a log.
    """

    def __init__(self, message: str, *, log_lines: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.log_lines = log_lines


class UnreachableError(MeasureError):
    """There is no connection to the device, or it broke."""


class WorkerDeathError(MeasureError):
    """The process that timed a file ended.

    Attributes:
        cause: the signal's name, "status N" or "out of memory".
        is_crash: whether the process crashed by itself; otherwise someone ended it.
    """

    def __init__(self, message: str, *, cause: str, is_crash: bool) -> None:
        super().__init__(message)
        self.cause, self.is_crash = cause, is_crash


class TrainError(CandidateError):
    """The training loss is not finite."""


def one_line(error: BaseException | str, *, max_length: int = MAX_LINE_LENGTH) -> str:
    """The message of an exception, or a text, as one line.

    Args:
        error: the exception or text.
        max_length: characters after which the line is cut.

    Returns:
        The text with each run of white space replaced by one space, and escapes for what a terminal does not print;
        the exception's type where it has no message.

    Examples:
        >>> one_line(ValueError("no such layer:\\n    conv1"))
        'no such layer: conv1'
        >>> one_line(KeyboardInterrupt())
        'KeyboardInterrupt'
    """
    text = printable(" ".join(str(error).split()))
    if not text and isinstance(error, BaseException):
        return type(error).__name__
    return text[:max_length]


def printable(text: str) -> str:
    r"""Text with escapes for characters that could end a line, or change a terminal or the order of a text.

    Examples:
        >>> printable("conv\x1b[2J")
        'conv\\x1b[2J'
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def find_system_error(error: BaseException) -> OSError | MemoryError | None:
    """What the machine lacked, in the end, where an exception looks like a fault of the work that it ended.

    Looked for in the exception and in those it was raised from or while handling. Libraries in C++ tell it by their
    message only, which is then made an exception of its own.

    Args:
        error: any exception.

    Returns:
        - the exception itself, if it is an `OSError`: no candidate is at fault for those;
        - the first behind it that is a `MemoryError`, or has a number of `SYSTEM_ERRNOS`;
        - None, if there is none.

    Examples:
        >>> find_system_error(RuntimeError("write failed: No space left on device"))
        OSError(28, 'No space left on device')
        >>> find_system_error(RuntimeError("sizes do not match")) is None
        True
    """
    if isinstance(error, OSError):
        return error
    link: BaseException | None = error
    seen = set[int]()
    while link is not None and id(link) not in seen:
        if isinstance(link, MemoryError) or is_lack_of_room(link):
            return link
        if not isinstance(link, NasError) and (found := _system_error_in_message(str(link))):
            return found
        seen.add(id(link))
        link = link.__cause__ or link.__context__
    return None


def is_lack_of_room(error: BaseException) -> TypeGuard[OSError]:
    """Whether an exception says that the machine lacks room, files or access to its disk: one of `SYSTEM_ERRNOS`."""
    return isinstance(error, OSError) and error.errno in SYSTEM_ERRNOS


def _system_error_in_message(message: str) -> OSError | MemoryError | None:
    if any(phrase in message for phrase in _MEMORY_PHRASES):
        return MemoryError(one_line(message))
    return next((OSError(number, text) for number, text in _SYSTEM_PHRASES.items() if text in message), None)


def describe_system_error(error: OSError | MemoryError | UnicodeError) -> str:
    """One line about an error that Python raises for files, connections, memory or text: reason, path and advice.

    Examples:
        >>> describe_system_error(PermissionError(13, "Permission denied", "runs"))
        'runs: Permission denied; check its owner and mode, or give another path'
    """
    if isinstance(error, MemoryError):
        detail = f" ({one_line(error)})" if str(error) else ""
        return f"out of memory{detail}; close other programs, or use a smaller data set or fewer --threads"
    if isinstance(error, UnicodeError):
        return f"a file must be UTF-8 text, but is not: {one_line(error)}; save it as UTF-8, or give another path"
    paths = " -> ".join(printable(str(name)) for name in (error.filename, error.filename2) if name is not None)
    reason = one_line(error.strerror or error)
    advice = next((text for kind, text in _ADVICE if isinstance(error, kind)), _ADVICE_BY_ERRNO.get(error.errno or 0))
    return f"{paths + ': ' if paths else ''}{reason}; {advice or 'check the path and the device it is on'}"


_ADVICE: tuple[tuple[type[OSError], str], ...] = (
    (FileNotFoundError, "check the path"),
    (PermissionError, "check its owner and mode, or give another path"),
    (IsADirectoryError, "give a file, not a folder"),
    (NotADirectoryError, "give a folder, not a file"),
    (FileExistsError, "give another path, or remove what is there"),
    (ChildProcessError, "free memory, or find out what ends it"),
    (ConnectionError, "check the connection and try again"),
    (TimeoutError, "check the connection and try again"),
)
_ADVICE_BY_ERRNO = {
    errno.ENOSPC: "free space on that disk, or give another path",
    errno.EDQUOT: "free space within your quota, or give another path",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EROFS: "the disk is read-only; give another path",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "the link leads back to itself; give another path",
}


class StepPausedError(Exception):
    """A step of a flow pauses: what it has done so far is in its files, and the same step goes on from there."""
