"""`python -m infra.jars fetch` downloads the jars that the platform runs on; `lock` resolves the locks anew after a
*.toml here changed.
"""

import sys

from rich.console import Console

from infra.errors import ClickstreamError
from infra.jars import AT_NEED, BUNDLES, jars, lock

console = Console(stderr=True)
try:
    match sys.argv[1:]:
        case ["lock"]:
            for bundle in (*BUNDLES, *AT_NEED):
                lock(bundle)
        case ["fetch"]:
            for bundle in BUNDLES:
                with console.status(f"jars of {bundle}"):
                    count = len(jars(bundle))
                console.print(f"{bundle}: {count} jars, checked")
        case _:
            sys.exit(__doc__)
except ClickstreamError as error:
    sys.exit(str(error))
