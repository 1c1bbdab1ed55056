"""`python -m kvraft`."""

import sys

from kvraft.cli import main

sys.exit(main())
