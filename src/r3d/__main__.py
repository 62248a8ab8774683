"""`python -m r3d` is the command line."""

from r3d.cli import main

main()
