"""`python -m tritoncluster`, where the command is not on the path."""

from tritoncluster.cli import main

main()
