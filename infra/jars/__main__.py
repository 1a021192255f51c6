"""`python -m infra.jars fetch` downloads every jar; `lock` resolves the locks anew after a *.toml here changed."""

import sys

from rich.console import Console

from infra.errors import ClickstreamError
from infra.jars import BUNDLES, jars, lock

console = Console(stderr=True)
try:
    for bundle in BUNDLES:
        if sys.argv[1:] == ["lock"]:
            lock(bundle)
        elif sys.argv[1:] == ["fetch"]:
            with console.status(f"jars of {bundle}"):
                count = len(jars(bundle))
            console.print(f"{bundle}: {count} jars, checked")
        else:
            sys.exit(__doc__)
except ClickstreamError as error:
    sys.exit(str(error))
