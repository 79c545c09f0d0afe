"""Which resource attributes become labels of every profile, and under which names.

The names are the ones Grafana and Pyroscope look for: ``service_name`` and ``service_namespace`` are what traces-to-profiles
selects by, ``service_repository`` and ``service_git_ref`` what source links are made of, and the Kubernetes names are those
that Grafana's other agents and Alloy attach.

Each label that changes with a process makes new series whenever a process is renewed in its place, and servers limit how many
series there may be at a time. So by default no process has its number as a label, nor an instance id that was made up for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..parsers import label_name
from ..settings import MAX_LABELS
from ..spans.labels import label_value

SERVICE_NAME = "service.name"
INSTANCE = "service.instance.id"
PROCESS = "process.pid"

USUAL_NAMES: Mapping[str, str] = {
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

DEFAULT_RESOURCE_LABELS: Mapping[str, str] = {
    attribute: name for attribute, name in USUAL_NAMES.items() if attribute != PROCESS
}
"""Those of them that are sent where nobody asks for others. An instance id only counts where `is_set_instance` says so."""

_RANDOM = r"(?i)[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
"""A UUID that was drawn at random: one of version 4 (RFC 9562)."""

UNKNOWN_SERVICE = "unknown_service"
"""What OpenTelemetry calls a service that has no name."""


def service_name(attributes: Mapping[str, object]) -> str:
    """Return the value of the label ``service_name`` for these resource attributes."""
    return label_value(attributes.get(SERVICE_NAME) or UNKNOWN_SERVICE)


def is_set_instance(instance: object, set_in_environment: str) -> bool:
    """Return whether somebody set this ``service.instance.id``, so that it may stay when the process is renewed.

    The SDK makes one up for each process, and so do vendors' detectors: a random UUID (OpenTelemetry's semantic conventions for
    ``service.instance.id`` name this way). One that code draws at random changes with the process as well.

    Args:
        instance: The resource's attribute.
        set_in_environment: What ``OTEL_RESOURCE_ATTRIBUTES`` says of it; empty for nothing.
    """
    return str(instance) == set_in_environment or not re.fullmatch(_RANDOM, str(instance))


def static_labels(
    attributes: Mapping[str, object],
    wanted: Mapping[str, str] | None,
    static: Mapping[str, str],
    instance_in_environment: str = "",
    most: int = MAX_LABELS,
) -> dict[str, str]:
    """Return the labels of every profile of this process.

    Args:
        attributes: The resource's attributes.
        wanted: Attribute to label name, an empty name standing for the usual one; None for `DEFAULT_RESOURCE_LABELS`.
        static: Labels that the user set; they win over those from the resource.
        instance_in_environment: The instance id that ``OTEL_RESOURCE_ATTRIBUTES`` names; empty for none.
        most: How many there may be; the resource's last ones are left out.
    """
    labels = {name: label_value(value) for name, value in static.items() if value}
    for attribute, renamed in (DEFAULT_RESOURCE_LABELS if wanted is None else wanted).items():
        value = attributes.get(attribute)
        if value is None or value == "" or attribute == SERVICE_NAME:
            continue
        if attribute == INSTANCE and wanted is None and not is_set_instance(value, instance_in_environment):
            continue
        try:
            name = renamed or USUAL_NAMES.get(attribute) or label_name(attribute)
        except ValueError:
            continue
        if len(labels) < most:
            labels.setdefault(name, label_value(value))
    return labels
