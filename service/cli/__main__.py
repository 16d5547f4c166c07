"""``python -m service.cli`` is ``quartermaster``."""

from service.cli import main

main()
