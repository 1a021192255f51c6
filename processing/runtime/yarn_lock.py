"""One application of a job and batch on YARN at a time: the newest ends those that were submitted before it.

Applications of a job and batch carry one tag (infra.spark.submit.yarn_tag). A driver asks the ResourceManager for
others with its tag as soon as its own application runs, and ends the older ones, wherever their drivers are: an orphan
in a container, one that still waits for room, or one on another machine whose submitter is thought to be dead. Should
there be a newer one, this driver gives way: of two that start at once exactly one goes on. ResourceManagers call an
application ended when its containers were told to end, a heartbeat before they have; what they might still write in
that second is the same rows, by an overwrite of the batch.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import structlog
from py4j.protocol import Py4JJavaError

from processing.errors import Superseded

if TYPE_CHECKING:
    from pyspark import SparkContext

log = structlog.get_logger()

_ENDED = {"FINISHED", "FAILED", "KILLED"}


@dataclass(frozen=True, slots=True)
class Application:
    """One line of the ResourceManager's answer; `state` is a YarnApplicationState."""

    id: str
    state: str

    @property
    def submitted(self) -> tuple[int, int]:
        """Sorts by the order of submission: application_<the ResourceManager's start>_<number>."""
        started, number = self.id.split("_")[1:]
        return int(started), int(number)


class ResourceManager(Protocol):
    """The calls to the ResourceManager that are used."""

    def applications(self, tag: str) -> list[Application]: ...

    def kill(self, application: str, why: str) -> None: ...


def take_over(context: SparkContext, tag: str) -> None:
    """Ends older applications with `tag`, if this is the newest. Raises Superseded, or TimeoutError.

    A ResourceManager that refuses to tell is no reason not to work: on a cluster with Kerberos a driver in a container
    has no login there without spark.kerberos.keytab.
    """
    try:
        with closing(YarnClient(context)) as client:
            own = context.applicationId
            if tag not in client.tags(own):
                log.warning("yarn_tag_missing", application=own, hint=f"submit it with --conf spark.yarn.tags={tag}")
            end_predecessors(client, own, tag)
    except Py4JJavaError as error:
        log.warning("yarn_predecessors_unknown", tag=tag, reason=str(error.java_exception))


def end_predecessors(
    manager: ResourceManager, own: str, tag: str, patience: float = 60.0, poll: float = 0.5
) -> list[str]:
    """Ends older applications with this tag and waits for their end; their ids.

    `own` is the id of this driver's application, `patience` and `poll` are seconds. Raises Superseded when there is a
    newer one, TimeoutError when an older one does not end.
    """
    alive = _alive(manager, own, tag)
    for application in alive:
        log.warning("yarn_predecessor_ended", application=application, tag=tag)
        manager.kill(application, f"a retry, {own}, takes over")
    deadline = time.monotonic() + patience
    while left := _alive(manager, own, tag):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{', '.join(left)} did not end within {patience:g} s")
        time.sleep(poll)
    return alive


def _alive(manager: ResourceManager, own: str, tag: str) -> list[str]:
    """Older applications that have not ended. Raises Superseded when there is a newer one."""
    mine = Application(own, "RUNNING").submitted
    others = [one for one in manager.applications(tag) if one.id != own and one.state not in _ENDED]
    newer = [one.id for one in others if one.submitted > mine]
    if newer:
        raise Superseded(own, max(newer))
    return [one.id for one in others]


class YarnClient:
    """The ResourceManager as Hadoop's own client in the driver's JVM reaches it: by its failover and its logins."""

    def __init__(self, context: SparkContext) -> None:
        self._jvm = cast(Any, context._jvm)
        yarn = self._jvm.org.apache.hadoop.yarn
        self._client = yarn.client.api.YarnClient.createYarnClient()
        self._client.init(yarn.conf.YarnConfiguration(context._jsc.hadoopConfiguration()))
        self._client.start()

    def applications(self, tag: str) -> list[Application]:
        """All with the tag, ended ones too as long as YARN remembers them."""
        request = self._jvm.org.apache.hadoop.yarn.api.protocolrecords.GetApplicationsRequest.newInstance()
        tags = self._jvm.java.util.HashSet()
        tags.add(tag)
        request.setApplicationTags(tags)
        found: Iterable[Any] = self._client.getApplications(request)
        return [Application(str(one.getApplicationId()), str(one.getYarnApplicationState())) for one in found]

    def tags(self, application: str) -> set[str]:
        """The tags of one application."""
        return set(self._client.getApplicationReport(self._id(application)).getApplicationTags())

    def kill(self, application: str, why: str) -> None:
        """Asks for its end."""
        self._client.killApplication(self._id(application), why)

    def close(self) -> None:
        self._client.stop()

    def _id(self, application: str) -> Any:
        return self._jvm.org.apache.hadoop.yarn.api.records.ApplicationId.fromString(application)
