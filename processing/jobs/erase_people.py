"""Forgets the people whom open requests name (`clickstream erasures request`), and closes requests that are done.

What they did until the request becomes nobody's, in all landed files and in the tables events and invalid: it tells of
items, places and money as before. Their links, features, examples, lists and the names in trained recommenders go;
sessions are built anew from what others did on the same browsers; exports lose their lists, the one in force by a new
version. Counts stay, so that gates and audit do.

A request stays open until a later run finds nothing of it any more: what was late, or was copied meanwhile, is found by
then. That run also drops the tables' snapshots from before, tagged or not, so that models of then can't be trained
again on the very same rows, and the names of whoever asked. What is still in Kafka leaves it by its own retention.
`--batch` names the newest curated batch.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from processing.events.erasure import carry_out_requests
from processing.runtime import job


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("erase_people", __doc__ or "", carry_out_requests, argv, job.any_batch)


if __name__ == "__main__":
    sys.exit(main())
