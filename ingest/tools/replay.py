"""Sends a file's lines to a running collector, in batches, with retries, and accounts for each line."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, Self

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from infra.errors import ConfigurationError, ServiceError
from infra.settings import Settings
from ingest.errors import SourceError

LineFormat = Literal["access-log", "jsonl"]
MAX_BATCH_BYTES = 1024 * 1024
_GZIP = b"\x1f\x8b"
_TIMEOUT = (5, 60)  # seconds to connect and to wait for an answer


def bundled_log() -> Path:
    """The access log that comes with the package; see ingest/data/NOTICE."""
    return Path(__file__).parents[1] / "data" / "access.log.gz"


@dataclass(slots=True)
class LineCounts:
    """Outcomes of the lines so far: lines = accepted + rejected + filtered."""

    lines: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    filtered: Counter[str] = field(default_factory=Counter)

    def facts(self) -> dict[str, Any]:
        return {
            "lines": self.lines,
            "accepted": self.accepted,
            "rejected": self.rejected.total(),
            "filtered": self.filtered.total(),
            "rejected_by_reason": dict(self.rejected),
            "filtered_by_reason": dict(self.filtered),
        }


class CollectorClient:
    """An HTTP client of the collector. Raises ServiceError if it stays away, or refuses the key."""

    def __init__(self, settings: Settings, retries: int = 12) -> None:
        """`retries` of a failed request, waiting up to 8 s between two; 12 outlast a restart of the collector."""
        if not settings.collector.write_keys:
            raise ConfigurationError(["CLICKSTREAM_COLLECTOR__WRITE_KEYS: no key to send with"])
        self._address = settings.collector.address
        self._session = requests.Session()
        self._session.verify = settings.collector.verify
        self._session.trust_env = False  # settings say where the collector is; no proxy in between
        self._session.headers["X-Write-Key"] = next(iter(settings.collector.write_keys.values())).secret
        self._session.mount(self._address, HTTPAdapter(max_retries=_retry(retries)))
        self._session.mount(f"{self._address}/healthz", HTTPAdapter(max_retries=_retry(2)))

    def check(self) -> None:
        """Raises ServiceError soon if no collector listens."""
        self.request("GET", "/healthz")

    def send(
        self, lines: list[bytes], first_line: int, file: str, format_: LineFormat, run: str | None = None
    ) -> LineCounts:
        """Posts lines `first_line`.. of `file`; a batch that is too large goes in halves."""
        path, content_type = (
            ("/collect/access-log", "text/plain") if format_ == "access-log" else ("/collect", "application/x-ndjson")
        )
        query = {"source": file, "first_line": str(first_line), "run": run or file}
        payload = gzip.compress(b"".join(line + b"\n" for line in lines), compresslevel=1)
        response = self.request("POST", path, params=query, data=payload, headers={"Content-Type": content_type})
        if response.status_code == 413:
            return self._send_halves(lines, first_line, file, format_, run)
        if response.status_code == 401:
            raise ServiceError("collector", "refuses the write key (CLICKSTREAM_COLLECTOR__WRITE_KEYS)")
        if not response.ok:
            raise ServiceError(
                "collector", f"answers {response.status_code} to lines from {first_line}: {response.text}"
            )
        answer = response.json()
        got = LineCounts(len(lines), answer["accepted"], Counter(answer["rejected"]), Counter(answer["filtered"]))
        if got.lines != got.accepted + got.rejected.total() + got.filtered.total():
            raise ServiceError("collector", f"accounts for other than {got.lines} lines from {first_line}: {answer}")
        return got

    def _send_halves(
        self, lines: list[bytes], first_line: int, file: str, format_: LineFormat, run: str | None
    ) -> LineCounts:
        if len(lines) == 1:
            return LineCounts(1, rejected=Counter({"line: is larger than the collector takes": 1}))
        middle = len(lines) // 2
        total = self.send(lines[:middle], first_line, file, format_, run)
        add(total, self.send(lines[middle:], first_line + middle, file, format_, run))
        return total

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """One request with the retries, whatever its answer's status."""
        try:
            return self._session.request(method, self._address + path, timeout=_TIMEOUT, **options)
        except requests.RequestException as error:
            reason = f"does not answer at {self._address} (CLICKSTREAM_COLLECTOR__URL; `clickstream up` starts one)"
            raise ServiceError("collector", reason) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()


def replay(
    client: CollectorClient,
    lines: Iterable[bytes],
    file: str,
    format_: LineFormat,
    *,
    batch_size: int = 500,
    run: str | None = None,
    progress: Callable[[LineCounts], None] = lambda outcome: None,
) -> LineCounts:
    """Sends all lines (without line ends); `progress` is called after each batch."""
    client.check()
    total = LineCounts()
    for batch in batches(lines, batch_size):
        add(total, client.send(batch, total.lines + 1, file, format_, run))
        progress(total)
    return total


def add(total: LineCounts, more: LineCounts) -> None:
    """Adds `more` to `total`."""
    total.lines += more.lines
    total.accepted += more.accepted
    total.rejected.update(more.rejected)
    total.filtered.update(more.filtered)


def batches(lines: Iterable[bytes], batch_size: int) -> Iterator[list[bytes]]:
    """Batches of at most `batch_size` lines and about MAX_BATCH_BYTES."""
    batch: list[bytes] = []
    size = 0
    for line in lines:
        if batch and (len(batch) >= batch_size or size + len(line) > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += len(line)
    if batch:
        yield batch


@contextmanager
def open_lines(path: Path) -> Iterator[tuple[Iterator[bytes], IO[bytes]]]:
    """The lines of a plain or gzipped file, and the file itself, whose position shows the progress.

    Raises SourceError when it can't be read, also while iterating.
    """
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == _GZIP
            raw.seek(0)
            if path.suffix == ".gz" and not zipped and raw.read(1):
                raise SourceError(path, "is named .gz and is no gzip file")
            raw.seek(0)
            stream: IO[bytes] = gzip.GzipFile(fileobj=raw) if zipped else raw  # type: ignore[assignment]
            yield _lines(path, stream), raw
    except OSError as error:
        raise SourceError(path, error.strerror or str(error)) from error


def _lines(path: Path, stream: IO[bytes]) -> Iterator[bytes]:
    try:
        for line in stream:
            yield line.removesuffix(b"\n")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SourceError(path, f"is a damaged gzip file: {error}") from error


def guess_format(path: Path) -> LineFormat:
    """The format by the file's name, else by its first line: JSON starts with a brace."""
    if {".jsonl", ".ndjson", ".json"} & {suffix.lower() for suffix in path.suffixes}:
        return "jsonl"
    with open_lines(path) as (lines, _):
        first = next((line for line in lines if line.strip()), b"")
    return "jsonl" if first.lstrip().startswith(b"{") else "access-log"


def _retry(retries: int) -> Retry:
    return Retry(
        total=retries,
        status_forcelist=(429, 502, 503, 504),
        allowed_methods=None,  # POST too: ids make a repeated batch harmless
        backoff_factor=0.2,
        backoff_max=8,
        raise_on_status=False,
    )
