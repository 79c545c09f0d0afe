"""The resource's attributes on every profile: those that the operator sets, those that detectors find, those asked for."""

from .conftest import BY_PROCESS, SERVICE

OPERATORS = (
    "k8s.container.name=web,k8s.deployment.name=checkout,k8s.namespace.name=shop,k8s.node.name=node-1,"
    "k8s.pod.name=checkout-5d-x2,k8s.pod.uid=8f1c,k8s.replicaset.name=checkout-5d,"
    "service.instance.id=shop.checkout-5d-x2.web,service.namespace=shop,service.version=1.4.2"
)
"""OTEL_RESOURCE_ATTRIBUTES as the OpenTelemetry operator writes it into a container."""


def series(app):
    """The labels of the series; there is one."""
    found = {tuple(sorted(sample.series.items())) for sample in app.samples}
    assert len(found) == 1
    return {name: value for name, value in next(iter(found)) if name != "__name__"}


def test_attributes_of_the_operator(run):
    """They become the labels that Grafana's other agents use; those that only double them do not."""
    app = run("lifecycle.py", "return", OTEL_RESOURCE_ATTRIBUTES=OPERATORS)
    labels = series(app)
    expected = {
        "service_name": SERVICE,
        "service_namespace": "shop",
        "service_version": "1.4.2",
        "service_instance_id": "shop.checkout-5d-x2.web",
        "namespace": "shop",
        "pod": "checkout-5d-x2",
        "container": "web",
        "node": "node-1",
    }
    assert expected.items() <= labels.items()
    assert not [name for name in labels if "replicaset" in name or "uid" in name or "deployment_name" in name]
    resource = app.spans[0].resource
    for attribute in ("service.name", "service.namespace"):
        assert labels[attribute.replace(".", "_")] == resource[attribute], "or Grafana's query finds no profile"


def test_detectors(run):
    """Detectors have run by then: what they find of the process and the host is labelled, the rest is not."""
    app = run("lifecycle.py", "return", OTEL_EXPERIMENTAL_RESOURCE_DETECTORS="otel,process,host,os")
    labels = series(app)
    resource = app.spans[0].resource
    assert labels["hostname"] == resource["host.name"]
    assert "os.type" in resource
    assert not [name for name in labels if name.startswith(("os_", "process_command", "process_runtime"))]


def test_labels_that_change_with_each_process(run):
    """There is none, unless it is asked for: a process that is renewed in its place makes no series."""
    for _ in range(2):
        app = run("lifecycle.py", "return")
    before = series(app)
    assert not before.keys() & {"process_pid", "service_instance_id"}
    app = run("lifecycle.py", "return", **BY_PROCESS, OTEL_EXPERIMENTAL_RESOURCE_DETECTORS="otel,process")
    (labels,) = [dict(sample.series) for sample in app.samples if "process_pid" in sample.series][:1]
    resource = app.spans[-1].resource
    assert labels["process_pid"] == str(resource["process.pid"])
    assert labels["service_instance_id"] == resource["service.instance.id"]


def test_allow_list_with_renames(run):
    """Only what is asked for, under the name that is asked for; the service's name is not for choice.

    Names with dots are the agent's own: its version, and the runtime's.
    """
    app = run(
        "lifecycle.py",
        "return",
        OTEL_RESOURCE_ATTRIBUTES=f"{OPERATORS},team=payments",
        OTEL_PROFILING_RESOURCE_LABELS="k8s.pod.name=instance,team,k8s.deployment.name,missing",
    )
    assert {name: value for name, value in series(app).items() if "." not in name} == {
        "service_name": SERVICE,
        "instance": "checkout-5d-x2",
        "team": "payments",
        "k8s_deployment_name": "checkout",
    }


def test_source_links(run):
    """Repository and revision arrive under the names from which Pyroscope makes links to the code."""
    app = run(
        "lifecycle.py",
        "return",
        OTEL_RESOURCE_ATTRIBUTES="vcs.repository.url.full=https://example.com/shop/checkout,vcs.ref.head.revision=9d59409a",
    )
    labels = series(app)
    assert labels["service_repository"] == "https://example.com/shop/checkout"
    assert labels["service_git_ref"] == "9d59409a"
