"""Ends what a killed server left, then becomes its successor: `python -m infra.services.succession NAME PROGRAM …`.

Children of a server that was killed live on with what they inherited. Airflow's workers keep its connection to the
database open, and with it the locks of a transaction that nobody will ever end.
"""

from __future__ import annotations

import os
import sys

import psutil

from infra.services.supervision import orphans
from infra.settings import Settings


def main() -> None:
    """Runs the program in this process, as the service of that name."""
    service, *program = sys.argv[1:]
    leftovers = orphans(Settings.from_env(), service)
    for process in leftovers:
        print(f"a killed predecessor left process {process.pid}, which is ended", file=sys.stderr, flush=True)
        process.kill()
    psutil.wait_procs(leftovers, timeout=10)
    os.execvp(program[0], program)


if __name__ == "__main__":
    main()
