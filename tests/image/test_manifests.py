"""What is deployed by copying a file is valid, and agrees with the code and with itself. No engine and no cluster is needed."""

import re
import shutil
import subprocess

import kubernetes_validate
import pytest
import yaml
from otel_profiling_configurator import environment_variables
from otel_profiling_configurator.agent.resource_labels import DEFAULT_RESOURCE_LABELS

from .conftest import AUTO_INSTRUMENTATION, REPOSITORY

DOCKER = REPOSITORY / "docker"
COMPOSE = DOCKER / "compose" / "compose.yaml"
KUSTOMIZATIONS = sorted(DOCKER.rglob("kustomization.yaml"))
MANIFESTS = sorted(path for path in (DOCKER / "kubernetes").rglob("*.yaml") if path.name != "kustomization.yaml")
DOCKERFILES = sorted(path for path in DOCKER.rglob("*ockerfile*") if not path.name.endswith(".dockerignore"))

OPERATORS_OWN = {"exporter", "propagators", "sampler", "resource", "env", "python"}
OPERATORS_PYTHON = {"image", "env", "resourceRequirements", "volumeLimitSize", "volumeClaimTemplate"}
"""Fields of opentelemetry.io/v1alpha1 Instrumentation that are ours to set; the cluster has its schema, this machine not."""

OURS = {name for name in vars(environment_variables) if name.startswith("OTEL_PROFILING_")}
GRAFANAS = {"PYROSCOPE_BASIC_AUTH_USER", "PYROSCOPE_BASIC_AUTH_PASSWORD"}


def load(path):
    return yaml.safe_load(path.read_text())


def name_of(path):
    return str(path.relative_to(DOCKER))


def environments():
    """Each list of variables in the manifests and in the compose file, as a dictionary."""
    for path in MANIFESTS:
        manifest = load(path)
        if manifest["kind"] == "Instrumentation":
            yield {entry["name"]: entry for entry in manifest["spec"]["python"]["env"]}
        elif manifest["kind"] == "Deployment":
            for container in manifest["spec"]["template"]["spec"]["containers"]:
                yield {entry["name"]: entry for entry in container.get("env", [])}
    for service in load(COMPOSE)["services"].values():
        yield service.get("environment", {})


@pytest.mark.parametrize("path", MANIFESTS, ids=name_of)
def test_kubernetes_schemas(path):
    """Valid by Kubernetes' own schema, with no field it does not know; the operator's resource by its field names."""
    manifest = load(path)
    if manifest["kind"] == "Instrumentation":
        assert manifest["apiVersion"] == "opentelemetry.io/v1alpha1"
        assert set(manifest["spec"]) <= OPERATORS_OWN
        assert set(manifest["spec"]["python"]) <= OPERATORS_PYTHON
    else:
        kubernetes_validate.validate(manifest, "1.30", strict=True)


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=name_of)
def test_kustomizations(path):
    """Each resource that is named exists, in the folder where kustomize allows it, and belongs to one namespace."""
    kustomization = load(path)
    assert kustomization["kind"] == "Kustomization"
    for resource in kustomization["resources"]:
        assert "/" not in resource
        manifest = load(path.parent / resource)
        namespace = manifest["metadata"]["name"] if manifest["kind"] == "Namespace" else manifest["metadata"]["namespace"]
        assert namespace == kustomization["namespace"]


def test_files_that_are_there_twice():
    """Kustomize reads no file outside of its folder, so two files are copies."""
    folder = DOCKER / "kubernetes"
    for name in ("namespace.yaml", "pyroscope-secret.yaml"):
        assert (folder / name).read_text() == (folder / "without-operator" / name).read_text()


def test_annotation_names_the_instrumentation():
    """The operator looks for the Instrumentation that the annotation names."""
    annotations = load(DOCKER / "kubernetes" / "deployment.yaml")["spec"]["template"]["metadata"]["annotations"]
    instrumentation = load(DOCKER / "kubernetes" / "instrumentation.yaml")
    assert annotations["instrumentation.opentelemetry.io/inject-python"] == instrumentation["metadata"]["name"]


def test_deployment_without_the_operator():
    """Same volume, same folders and same variables as with the operator; the application can't write into the tree."""
    pod = load(DOCKER / "kubernetes" / "without-operator" / "deployment.yaml")["spec"]["template"]["spec"]
    init, container = pod["initContainers"][0], pod["containers"][0]
    variables = {entry["name"]: entry.get("value") for entry in container["env"]}
    folder = container["volumeMounts"][0]["mountPath"]
    assert init["command"] == ["cp", "-r", "/autoinstrumentation/.", init["volumeMounts"][0]["mountPath"]]
    assert variables["PYTHONPATH"] == f"{folder}/{AUTO_INSTRUMENTATION}:{folder}"
    assert container["volumeMounts"][0]["readOnly"]
    asked = dict(pair.split("=") for pair in variables["OTEL_RESOURCE_ATTRIBUTES"].split(","))
    assert set(asked) <= set(DEFAULT_RESOURCE_LABELS), "each is a label of the profiles"
    for used in re.findall(r"\$\((\w+)\)", variables["OTEL_RESOURCE_ATTRIBUTES"]):
        assert list(variables).index(used) < list(variables).index("OTEL_RESOURCE_ATTRIBUTES"), "else it is not replaced"
    operators = {entry["name"] for entry in load(DOCKER / "kubernetes" / "instrumentation.yaml")["spec"]["python"]["env"]}
    assert operators <= set(variables)


def test_variables_exist():
    """No example sets a variable of ours that nobody reads."""
    found = set()
    for variables in environments():
        found |= {name for name in variables if name.startswith(("OTEL_PROFILING_", "PYROSCOPE_"))}
    assert found
    assert found <= OURS | GRAFANAS


def test_secrets_come_from_the_secret():
    """Passwords are referred to, never written down, and pods start without the secret."""
    secret = load(DOCKER / "kubernetes" / "pyroscope-secret.yaml")
    references = [entry for variables in environments() for name, entry in variables.items() if name in GRAFANAS]
    assert len(references) == 4
    for entry in references:
        reference = entry["valueFrom"]["secretKeyRef"]
        assert reference["name"] == secret["metadata"]["name"]
        assert reference["key"] == entry["name"]
        assert reference["optional"]
    assert set(secret["stringData"]) == GRAFANAS
    assert not any(secret["stringData"].values())


def compose_command():
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0:
            return command
    return pytest.skip("neither `docker compose` nor docker-compose is installed")


def test_compose_config():
    """Compose itself reads the file."""
    command = [*compose_command(), "--file", str(COMPOSE), "config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == set(load(COMPOSE)["services"])


def test_compose_stack():
    """Every file it mounts or builds from exists, everything it waits for or sends to is a service in it."""
    services = load(COMPOSE)["services"]
    for service in services.values():
        for volume in service.get("volumes", []):
            assert (COMPOSE.parent / volume.split(":")[0]).exists(), volume
        assert set(service.get("depends_on", [])) <= set(services)
        if "build" in service:
            context = COMPOSE.parent / service["build"]["context"]
            assert (context / service["build"]["dockerfile"]).exists()
        else:
            assert re.search(r":v?\d+\.\d+", service["image"]), "a version, so that it stays what was tried"
    for path in (COMPOSE, *COMPOSE.parent.rglob("*.yaml"), COMPOSE.parent / "config.alloy"):
        text = re.sub(r"^\s*(#|//).*$", "", path.read_text(), flags=re.MULTILINE)
        hosts = re.findall(r"https?://([\w.]+):\d+", text) + re.findall(r'endpoint *= "([a-z]+):\d+"', text)
        assert set(hosts) <= set(services), path


def test_ports_that_the_collector_listens_on():
    """Applications send to ports that Alloy's configuration opens."""
    alloy = (COMPOSE.parent / "config.alloy").read_text()
    listening = set(re.findall(r'endpoint *= "0\.0\.0\.0:(\d+)"|listen_port *= (\d+)', alloy))
    ports = {port for pair in listening for port in pair if port}
    for value in load(COMPOSE)["services"]["work"]["environment"].values():
        for port in re.findall(r"http://alloy:(\d+)", str(value)):
            assert port in ports


def test_traces_to_profiles():
    """Grafana asks for the profile type that the agent sends, and by labels that every profile has."""
    sources = {
        source["uid"]: source for source in load(COMPOSE.parent / "grafana" / "datasources" / "datasources.yaml")["datasources"]
    }
    link = sources["tempo"]["jsonData"]["tracesToProfiles"]
    assert sources[link["datasourceUid"]]["type"] == "grafana-pyroscope-datasource"
    assert link["profileTypeId"] == "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
    assert link["customQuery"] is False
    labels = {"service.name": "service_name", **DEFAULT_RESOURCE_LABELS}
    assert [tag["key"] for tag in link["tags"]] == ["service.name", "service.namespace"]
    for tag in link["tags"]:
        assert tag["value"] == labels[tag["key"]]


@pytest.mark.parametrize(
    "page", [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_pages(page):
    """Each file that a page links to exists, and each variable that it names."""
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / link).exists(), link
    names = set(re.findall(r"OTEL_PROFILING_[A-Z_]*[A-Z]", text)) - {"OTEL_PROFILING_X"}
    assert names <= OURS


@pytest.mark.parametrize("path", DOCKERFILES, ids=name_of)
def test_dockerfiles(path):
    """What they copy exists, and they do not run as root."""
    text = path.read_text()
    context = path.parent if path.parent.name == "application" else REPOSITORY
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", text, flags=re.MULTILINE):
        for source in sources.split():
            assert (context / source).exists(), source
    assert re.findall(r"^USER (\S+)$", text, flags=re.MULTILINE)[-1].split(":")[0].isdigit()
