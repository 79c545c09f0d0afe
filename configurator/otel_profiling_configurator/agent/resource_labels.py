"""Which resource attributes become labels of every profile, and under which names.

The names are the ones Grafana and Pyroscope look for: ``service_name`` and ``service_namespace`` are what traces-to-profiles
selects by, ``service_repository`` and ``service_git_ref`` what source links are made of, and the Kubernetes names are those
that Grafana's other agents and Alloy attach.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..settings import MAX_LABELS, label_name
from ..spans.labels import label_value

SERVICE_NAME = "service.name"
PROCESS = "process.pid"

DEFAULT_RESOURCE_LABELS: Mapping[str, str] = {
    "service.namespace": "service_namespace",
    "service.version": "service_version",
    "service.instance.id": "service_instance_id",
    "deployment.environment.name": "deployment_environment",
    "k8s.namespace.name": "namespace",
    "k8s.pod.name": "pod",
    "k8s.container.name": "container",
    "k8s.node.name": "node",
    "k8s.cluster.name": "cluster",
    "host.name": "hostname",
    "process.pid": "process_pid",
    "vcs.repository.url.full": "service_repository",
    "vcs.ref.head.revision": "service_git_ref",
}
"""Attribute to label name. ``service.name`` is not among them: the agent sends the application name as ``service_name``."""

UNKNOWN_SERVICE = "unknown_service"
"""What OpenTelemetry calls a service that has no name."""


def service_name(attributes: Mapping[str, object]) -> str:
    """Return the value of the label ``service_name`` for these resource attributes."""
    return label_value(attributes.get(SERVICE_NAME) or UNKNOWN_SERVICE)


def static_labels(
    attributes: Mapping[str, object], wanted: Mapping[str, str] | None, static: Mapping[str, str]
) -> dict[str, str]:
    """Return the labels that every profile of this process carries, at most `MAX_LABELS`.

    Args:
        attributes: The resource's attributes.
        wanted: Attribute to label name, an empty name standing for the usual one; None for `DEFAULT_RESOURCE_LABELS`.
        static: Labels that the user set; they win over those from the resource.
    """
    labels = {name: label_value(value) for name, value in static.items() if value}
    for attribute, renamed in (DEFAULT_RESOURCE_LABELS if wanted is None else wanted).items():
        value = attributes.get(attribute)
        if value is None or value == "" or attribute == SERVICE_NAME:
            continue
        try:
            name = renamed or DEFAULT_RESOURCE_LABELS.get(attribute) or label_name(attribute)
        except ValueError:
            continue
        if len(labels) < MAX_LABELS:
            labels.setdefault(name, label_value(value))
    return labels
