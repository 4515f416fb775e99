"""``python -m idemvox.cli``."""

from idemvox.cli import main

main()
