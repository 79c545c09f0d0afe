"""Resource attributes as labels: the names that Grafana looks for, and no more than a series may have."""

from __future__ import annotations

import pytest
from otel_profiling_configurator.agent.resource_labels import is_set_instance, service_name, static_labels
from otel_profiling_configurator.settings import MAX_LABELS
from otel_profiling_configurator.spans.labels import MAX_VALUE_BYTES

GRAFANA_NAMES = {
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


def test_documented_attributes() -> None:
    """Each has the label that is documented, and all fit; a process's number only where it is asked for."""
    attributes = {attribute: f"value of {attribute}" for attribute in GRAFANA_NAMES}
    labels = {label: attributes[attribute] for attribute, label in GRAFANA_NAMES.items()}
    assert static_labels(attributes, dict.fromkeys(GRAFANA_NAMES, ""), {}) == labels
    assert static_labels(attributes, None, {}) == {name: value for name, value in labels.items() if name != "process_pid"}


RANDOM = "0b5f2c2e-4a77-4d1b-9a3e-6f0c5a1d2e3f"


@pytest.mark.parametrize(
    ("instance", "in_environment", "is_set"),
    [
        ("shop.checkout-5d-x2.web", "shop.checkout-5d-x2.web", True),
        ("worker-1", "", True),
        (7, "", True),
        ("0b5f2c2e-4a77-5d1b-9a3e-6f0c5a1d2e3f", "", True),
        (RANDOM, RANDOM, True),
        (RANDOM, "worker-1", False),
        (RANDOM, "", False),
        (RANDOM.upper(), "", False),
    ],
    ids=[
        "environment",
        "code",
        "number",
        "made of a name",
        "random, in the environment",
        "random, of a child",
        "random",
        "capitals",
    ],
)
def test_instance_id(instance: object, in_environment: str, is_set: bool) -> None:
    """One that was made up for the process is no label by default: each process that is renewed would make new series."""
    assert is_set_instance(instance, in_environment) is is_set
    attributes = {"service.instance.id": instance}
    expected = {"service_instance_id": str(instance)}
    assert static_labels(attributes, None, {}, in_environment) == (expected if is_set else {})
    assert static_labels(attributes, {"service.instance.id": ""}, {}, in_environment) == expected


def test_other_attributes() -> None:
    """They are not sent unless they are asked for."""
    assert static_labels({"os.type": "linux", "telemetry.sdk.name": "opentelemetry"}, None, {}) == {}


@pytest.mark.parametrize(
    ("wanted", "labels"),
    [
        ({"host.name": ""}, {"hostname": "h"}),
        ({"host.name": "machine"}, {"machine": "h"}),
        ({"os.type": ""}, {"os_type": "linux"}),
        ({"os.type": "os"}, {"os": "linux"}),
        ({"missing": ""}, {}),
        ({"": "name"}, {}),
        ({"__reserved": ""}, {}),
        ({}, {}),
        ({"host.name": "same", "os.type": "same"}, {"same": "h"}),
    ],
    ids=str,
)
def test_attributes_that_are_asked_for(wanted: dict[str, str], labels: dict[str, str]) -> None:
    """Only those, under the usual name, the one asked for, or their own with underscores."""
    assert static_labels({"host.name": "h", "os.type": "linux", "__reserved": "x"}, wanted, {}) == labels


@pytest.mark.parametrize("wanted", [{"service.name": ""}, {"service.name": "service"}, None])
def test_service_name_is_never_a_static_label(wanted: dict[str, str] | None) -> None:
    """The agent sends it as the application name: a second one would be a duplicate label."""
    assert static_labels({"service.name": "shop"}, wanted, {}) == {}


@pytest.mark.parametrize("value", [None, ""])
def test_attribute_without_a_value(value: object) -> None:
    """An empty label is none, so it is not sent."""
    assert static_labels({"host.name": value}, None, {"region": ""}) == {}


@pytest.mark.parametrize(("value", "label"), [(4711, "4711"), (0, "0"), (False, "False"), (("a", "b"), "('a', 'b')")])
def test_attribute_that_is_no_string(value: object, label: str) -> None:
    """Attributes may be numbers, truth values and sequences; labels are text."""
    assert static_labels({"service.version": value}, None, {}) == {"service_version": label}


def test_static_label_of_the_same_name() -> None:
    """What the user set wins over what was detected."""
    assert static_labels({"host.name": "detected"}, None, {"hostname": "set"}) == {"hostname": "set"}


def test_more_than_a_series_may_have() -> None:
    """Those the user set come first, then attributes in the order asked for."""
    static = {f"set{n}": "v" for n in range(MAX_LABELS - 1)}
    attributes = {"a": "1", "b": "2"}
    assert static_labels(attributes, {"b": "", "a": ""}, static) == {**static, "b": "2"}


def test_very_long_values() -> None:
    """Cut to what the server accepts, wherever they come from."""
    labels = static_labels({"host.name": "h" * 10_000}, None, {"region": "é" * 10_000})
    assert sorted(map(len, map(str.encode, labels.values()))) == [MAX_VALUE_BYTES, MAX_VALUE_BYTES]


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"service.name": "shop"}, "shop"),
        ({"service.name": ""}, "unknown_service"),
        ({}, "unknown_service"),
        ({"service.name": 7}, "7"),
        ({"service.name": "s" * 10_000}, "s" * MAX_VALUE_BYTES),
    ],
    ids=["usual", "empty", "none", "number", "long"],
)
def test_service_name(attributes: dict[str, object], name: str) -> None:
    """The application is called what traces call it, so that one leads to the other."""
    assert service_name(attributes) == name
