"""What can be built: one module without a leading underscore per search space, each ending with `SPACE`."""

from search_spaces._base import HEAD, STEM, Architecture, Choice, DisconnectedError, SearchSpace, Value

__all__ = ["HEAD", "STEM", "Architecture", "Choice", "DisconnectedError", "SearchSpace", "Value"]
