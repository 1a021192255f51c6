"""Errors of settings, servers and dependencies.

ClickstreamError                    every error that a user can act on; the CLI prints it and exits with 2,
                                    or with MAY_PASS if a retry may succeed
├── ConfigurationError              settings that are wrong or contradict each other, all of them at once
├── ServiceError                    a server did not start, or did not become healthy
└── DependencyError                 something the machine must bring is missing (a JVM, jars)
"""

from __future__ import annotations

from collections.abc import Sequence

# Exit codes as in sysexits.h.
GATE_CLOSED = 65  # EX_DATAERR, of jobs; 3 is that of a JVM without memory
MAY_PASS = 75  # EX_TEMPFAIL, of commands: a server did not answer


class ClickstreamError(Exception):
    """Base of all errors whose message is for the person at the terminal. `may_pass`: the same command may succeed on a
    retry."""

    may_pass = False


class ConfigurationError(ClickstreamError):
    """Wrong settings; `problems` has one line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class ServiceError(ClickstreamError):
    """`service` failed; `reason` says how, and where its log is."""

    def __init__(self, service: str, reason: str) -> None:
        self.service, self.reason = service, reason
        super().__init__(f"{service}: {reason}")


class DependencyError(ClickstreamError):
    """Something that must be on this machine is not."""
