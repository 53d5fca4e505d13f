"""Everything this package raises on purpose.

    NasError
    |-- UserError(ValueError)          what a person typed or handed over is wrong; the message says what to do
    |   |-- ConfigError                a flag, a TOML field, a run folder of another configuration
    |   |-- DataError                  a data set's file, row or label
    |   |-- UnknownMemberError         a word that names no member of a family
    |   `-- MissingPackageError(ImportError)   an optional package; the message ends with the line to type
    `-- CandidateError(RuntimeError)   one candidate cannot be finished; the search goes on without it
        |-- BuildError                 the net cannot be built or pruned
        |-- ExportError                the file cannot be written, or the checker refuses it
        |-- ParityError                torch and the runtime disagree on the exported file
        |-- MeasureError               the device did not give a latency that can be trusted
        `-- TrainError                 the loss is not finite

The command line prints the message of any `NasError` as one line and exits with status 2, without a traceback.
"""


class NasError(Exception):
    """Base of everything this package raises on purpose."""


class UserError(NasError, ValueError):
    """Something a person handed over is wrong. The message says what must hold, what was got and what to do."""


class ConfigError(UserError):
    """A flag, a field of the configuration file or a run folder does not fit."""


class DataError(UserError):
    """A data set's file, row or label does not fit. The message names file, row and reason."""


class UnknownMemberError(UserError):
    """A word names no member of its family. The message lists the members."""


class MissingPackageError(UserError, ImportError):
    """An optional package is not installed. The message ends with the line that installs it."""


class CandidateError(NasError, RuntimeError):
    """One candidate cannot be finished. The search records the reason and goes on."""


class BuildError(CandidateError):
    """The candidate's net cannot be built or pruned."""


class ExportError(CandidateError):
    """The candidate's ONNX file cannot be written, or the checker refuses it."""


class ParityError(CandidateError):
    """Torch and the runtime disagree on the exported file. The message names the first diverging node."""


class MeasureError(CandidateError):
    """The device did not give a latency that can be trusted.

    Attributes:
        log_lines: the last lines that the device's tool wrote, where it wrote any.
    """

    def __init__(self, message: str, *, log_lines: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.log_lines = log_lines


class UnreachableError(MeasureError):
    """There is no way to the device, or the connection to it broke."""


class TrainError(CandidateError):
    """The training loss is not finite."""
