"""`python -m irisflow`: the `irisflow` command."""

import sys

from irisflow.cli import main

sys.exit(main())
