"""``python -m mars_pyg`` is the command line."""

from mars_pyg.cli import main

main()
