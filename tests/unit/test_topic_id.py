"""Whether a topic is still the one whose records were landed."""

from __future__ import annotations

import pytest

from storage.errors import LogError
from storage.layout import Layout
from storage.sink import topic_id
from tests.fakes import FakeHdfs

LAYOUT = Layout("/clickstream", "clicks")


@pytest.mark.parametrize("identifier", ["xUX8V/MoRuWtG2SkjzfTaQ", "Gx+/V3MoRuWtG2SkjzfTaQ", "plainMoRuWtG2SkjzfTaQA"])
def test_the_topic_that_was_landed_is_known_again_and_another_is_refused(identifier: str) -> None:
    fs = FakeHdfs()
    for _ in range(2):
        topic_id.check(fs, LAYOUT, identifier)
    with pytest.raises(LogError, match="clicks was deleted and created anew"):
        topic_id.check(fs, LAYOUT, "another+id/of+the+same0")
    topic_id.check(fs, LAYOUT, identifier)


def test_of_two_topics_found_at_the_same_moment_none_is_landed() -> None:
    fs = FakeHdfs()
    fs.mkdirs("/clickstream/epochs/clicks/id=one")
    fs.mkdirs("/clickstream/epochs/clicks/id=two")
    for identifier in ("one", "two"):
        with pytest.raises(LogError):
            topic_id.check(fs, LAYOUT, identifier)
