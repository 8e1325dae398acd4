"""`python -m filterbands` is `filterbands`."""

import sys

from .cli import main

sys.exit(main())
