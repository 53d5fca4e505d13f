"""Tasks in worker processes on this machine. A worker that crashes or is killed costs its task one more try."""

from nas.searcher.process_pool import ProcessPool

EXECUTOR = ProcessPool
