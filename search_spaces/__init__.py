"""Search spaces, one module each, ending with `SPACE`; modules with a leading underscore are their parts."""

from search_spaces._base import HEAD, STEM, Architecture, Choice, DisconnectedError, SearchSpace, Value

__all__ = ["HEAD", "STEM", "Architecture", "Choice", "DisconnectedError", "SearchSpace", "Value"]
