"""``python -m stylebatch``."""

import sys

from stylebatch.cli import main

if __name__ == "__main__":
    sys.exit(main())
