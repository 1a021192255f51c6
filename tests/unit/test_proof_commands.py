"""How proof is shown: the commands' own part, without any server."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from storage.audit.partition import Finding
from storage.audit.topic import Audit, audit
from storage.cli.proof import ledger_command, watch_until_interrupted
from storage.errors import BatchError
from storage.layout import Layout
from tests.fakes import FakeHdfs


def test_watching_shows_it_again_until_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    shown = 0

    def show() -> list[str]:
        nonlocal shown
        shown += 1
        if shown == 4:
            raise KeyboardInterrupt
        return [f"look number {shown}"]

    watch_until_interrupted(show, seconds=0)
    assert shown == 4
    assert "look number 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "problem"),
    [(["--all", "--batch", "one"], "--all and --batch"), (["--watch", "--json"], "--watch and --json")],
)
def test_options_that_exclude_each_other_are_refused(options: list[str], problem: str) -> None:
    result = CliRunner().invoke(ledger_command, options)
    assert (result.exit_code, problem in result.output) == (2, True)


def test_an_audit_of_nothing_proves_nothing() -> None:
    with pytest.raises(BatchError, match="/clickstream/raw/typo does not exist"):
        audit(FakeHdfs(), Layout("/clickstream", "typo"))


def test_an_audit_keeps_the_first_findings_and_counts_all() -> None:
    found = Audit("clicks", deep=False)
    for number in range(1_000):
        found.add(Finding("hole" if number else "name", f"number {number}", ("file",)))
    facts = found.facts()
    assert (facts["violations"], facts["kinds"]) == (1_000, {"name": 1, "hole": 999})
    assert facts["findings"][0]["text"] == "number 0" and len(facts["findings"]) < 1_000
