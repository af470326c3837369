"""python -m dfly: the same as the command dfly."""

import sys

from dfly.cli import main

sys.exit(main())
