"""Runs and versions of models in MLflow: the only module that imports it.

The store is a SQL database, <home>/mlflow/mlflow.db unless processing.mlflow_url names another or a server. Each
training is a run; each model that it made is a version of a registered model, `recommender` or another, which points to
the model's folder on HDFS and carries what a later batch needs of it. The alias `champion` is whose recipe is in force,
`challenger` the newest that was not promoted.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.errors import ClickstreamError, DependencyError
from infra.settings import Settings

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

RECOMMENDER = "recommender"
CHAMPION, CHALLENGER = "champion", "challenger"


class UnknownVersion(ClickstreamError):  # noqa: N818 - the domain's own term
    """There is no such version in the registry."""


class NotPromotable(ClickstreamError):  # noqa: N818
    """The gate refused the version, or never saw it; or there is nothing of it to go back to."""


class NotShown(ClickstreamError):  # noqa: N818
    """`name` is champion, but its lists could not be put in force. To go back again would be one too many."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(
            f"{name} is champion, but its lists are not shown: {error}; `clickstream models promote {name}` shows them"
        )


@dataclass(frozen=True, slots=True)
class Version:
    """A registered model. `facts`: what training and gate said of it; `replaced` is the champion before it."""

    number: int
    name: str
    batch: int
    source: str
    run_id: str
    aliases: tuple[str, ...]
    facts: Mapping[str, Any]

    @property
    def decision(self) -> Mapping[str, Any]:
        """What the gate said; {} before it was asked."""
        found: Mapping[str, Any] = self.facts.get("decision") or {}
        return found


class Registry:
    """Of one registered model. Opens the store and makes it where it is missing, which takes some seconds."""

    def __init__(self, settings: Settings, model: str = RECOMMENDER) -> None:
        """Raises DependencyError where MLflow is missing."""
        self._client, self.model = _client(settings), model
        self._artifacts = (
            (settings.home / "mlflow" / "artifacts").as_uri() if not settings.processing.mlflow_url else None
        )

    def run(self, name: str, tags: Mapping[str, str]) -> str:
        """The id of the run of these very tags, made where there is none: a rerun goes on in its predecessor's."""
        experiment = self._experiment()
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        found = self._client.search_runs([experiment], wanted, max_results=1)
        return str(
            (found[0] if found else self._client.create_run(experiment, run_name=name, tags=dict(tags))).info.run_id
        )

    def log(
        self,
        run_id: str,
        parameters: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float | None] | None = None,
        documents: Mapping[str, Any] | None = None,
        figures: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Adds to a run; `documents` become JSON files and `figures` pictures, by their file names."""
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        numbers = [Metric(name, value, now, 0) for name, value in (metrics or {}).items() if value is not None]
        texts = [Param(name, str(value)) for name, value in (parameters or {}).items()]
        self._client.log_batch(run_id, numbers, texts, [RunTag(name, value) for name, value in (tags or {}).items()])
        for name, document in (documents or {}).items():
            self._client.log_dict(run_id, document, name)
        for name, figure in (figures or {}).items():
            self._client.log_figure(run_id, figure, name)

    def read_run(self, run_id: str) -> dict[str, Any]:
        """Its `metrics`, `parameters` and `tags`, and when it was `started`, in milliseconds since 1970."""
        run = self._client.get_run(run_id)
        return {
            "metrics": dict(run.data.metrics),
            "parameters": dict(run.data.params),
            "tags": dict(run.data.tags),
            "started": run.info.start_time,
        }

    def finish(self, run_id: str) -> None:
        self._client.set_terminated(run_id)

    def register(self, run_id: str, name: str, batch: int, source: str, facts: Mapping[str, Any]) -> Version:
        """The version of this run; a rerun finds the one that is there."""
        with suppress(UnknownVersion):
            return self.of_run(run_id)
        from mlflow.exceptions import MlflowException

        try:
            self._client.get_registered_model(self.model)
        except MlflowException:
            self._client.create_registered_model(self.model)
        tags = {"name": name, "batch": str(batch), "facts": json.dumps(facts)}
        made = self._client.create_model_version(self.model, source, run_id, tags=tags)
        return self.get(str(made.version))

    def versions(self) -> list[Version]:
        """All, the newest first."""
        found = self._client.search_model_versions(f"name = '{self.model}'")
        if not found:
            return []
        model = self._client.get_registered_model(self.model)
        aliases: dict[int, list[str]] = {}
        for alias, number in model.aliases.items():
            aliases.setdefault(int(number), []).append(alias)
        versions = [_version(one, aliases.get(int(one.version), [])) for one in found]
        return sorted(versions, key=lambda version: -version.number)

    def get(self, which: str) -> Version:
        """By number, by name or by alias. Raises UnknownVersion."""
        for version in self.versions():
            if which in (str(version.number), version.name, *version.aliases):
                return version
        raise UnknownVersion(f"the registry has no {self.model} {which!r}: `clickstream models list` shows them")

    def of_run(self, run_id: str) -> Version:
        """Raises UnknownVersion for a run that registered no model."""
        for version in self.versions():
            if version.run_id == run_id:
                return version
        raise UnknownVersion(f"run {run_id} registered no model")

    def champion(self) -> Version | None:
        """Whose recipe is in force; None before the first."""
        return next((version for version in self.versions() if CHAMPION in version.aliases), None)

    def decided(self, version: Version, decision: Mapping[str, Any]) -> None:
        """Records what the gate said of a version, and puts it in force if it may be and is no older than who is."""
        self._update(version, decision=dict(decision))
        champion = self.champion()
        if not decision["promoted"]:
            self._client.set_registered_model_alias(self.model, CHALLENGER, str(version.number))
            return
        newer = champion is None or (champion.number != version.number and champion.batch <= version.batch)
        if newer and not version.facts.get("rolled_back"):  # a rerun of its batch does not undo that
            self._crown(version, champion)

    def promote(self, which: str, despite: str | None = None) -> Version:
        """Makes a version champion by hand; one that the gate refused, only with a reason. Raises NotPromotable."""
        version, champion = self.get(which), self.champion()
        if not version.decision.get("promoted") and despite is None:
            failed = [check["detail"] for check in version.decision.get("checks", []) if not check["passed"]]
            why = "; ".join(failed) or "it was never evaluated"
            raise NotPromotable(
                f"{version.name} did not pass the gate ({why}); --despite REASON promotes it all the same"
            )
        if champion is None or champion.number != version.number:
            self._update(version, rolled_back=False, despite=despite)
            self._crown(version, champion)
        return self.get(str(version.number))

    def predecessor(self) -> Version:
        """Whom the champion has replaced. Raises NotPromotable where there is none."""
        champion = self.champion()
        before = None if champion is None else champion.facts.get("replaced")
        if before is None:
            raise NotPromotable("no champion was replaced so far")
        return self.get(str(before))

    def rollback(self) -> Version:
        """Makes the champion's predecessor champion again. Raises NotPromotable where there is none."""
        before = self.predecessor()
        self._update(self.get(CHAMPION), rolled_back=True)
        self._client.set_registered_model_alias(self.model, CHAMPION, str(before.number))
        return self.get(str(before.number))

    def _crown(self, version: Version, champion: Version | None) -> None:
        self._update(self.get(str(version.number)), replaced=None if champion is None else champion.number)
        self._client.set_registered_model_alias(self.model, CHAMPION, str(version.number))
        if CHALLENGER in version.aliases:
            self._client.delete_registered_model_alias(self.model, CHALLENGER)

    def _update(self, version: Version, **facts: Any) -> None:
        merged = {**self.get(str(version.number)).facts, **facts}
        self._client.set_model_version_tag(self.model, str(version.number), "facts", json.dumps(merged))

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(self.model)
        return str(found.experiment_id if found else self._client.create_experiment(self.model, self._artifacts))


def _version(found: ModelVersion, aliases: list[str]) -> Version:
    return Version(
        number=int(found.version),
        name=found.tags["name"],
        batch=int(found.tags["batch"]),
        source=str(found.source),
        run_id=str(found.run_id),
        aliases=tuple(sorted(aliases)),
        facts=json.loads(found.tags["facts"]),
    )


def _client(settings: Settings) -> MlflowClient:
    # It asks for this before it can be told otherwise, and would report its use to its makers.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise DependencyError("models are kept in MLflow: pip install 'clickstream[mlops]'") from error
    url = settings.processing.mlflow_url
    if not url:
        folder = settings.home / "mlflow"
        folder.mkdir(parents=True, exist_ok=True)
        url = f"sqlite:///{folder}/mlflow.db"
    return MlflowClient(url, url)
