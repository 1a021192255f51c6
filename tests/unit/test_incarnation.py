"""Whether a topic is still the one whose records were landed."""

from __future__ import annotations

import pytest

from storage import incarnation
from storage.errors import LogError
from storage.layout import Layout
from tests.fakes import FakeHdfs

LAYOUT = Layout("/clickstream", "clicks")


@pytest.mark.parametrize("topic_id", ["xUX8V/MoRuWtG2SkjzfTaQ", "Gx+/V3MoRuWtG2SkjzfTaQ", "plainMoRuWtG2SkjzfTaQA"])
def test_the_topic_that_was_landed_is_known_again_and_another_is_refused(topic_id: str) -> None:
    fs = FakeHdfs()
    for _ in range(2):
        incarnation.check(fs, LAYOUT, topic_id)
    with pytest.raises(LogError, match="clicks was deleted and created anew"):
        incarnation.check(fs, LAYOUT, "another+id/of+the+same0")
    incarnation.check(fs, LAYOUT, topic_id)


def test_of_two_topics_found_at_the_same_moment_none_is_landed() -> None:
    fs = FakeHdfs()
    fs.mkdirs("/clickstream/epochs/clicks/id=one")
    fs.mkdirs("/clickstream/epochs/clicks/id=two")
    for topic_id in ("one", "two"):
        with pytest.raises(LogError):
            incarnation.check(fs, LAYOUT, topic_id)
