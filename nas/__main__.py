"""Entry point of `python -m nas`, the same as `nas`."""

from nas.cli.main import main

main()
