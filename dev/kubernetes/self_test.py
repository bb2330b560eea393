"""Plants one mistake of each kind, and expects the check that should find it to find it, and to find nothing without it."""

import copy
import json
import pathlib
import tempfile

import yaml

import check
import reference
import rendered
import server
import settings


def named(documents, kind, name):
    (found,) = [each for each in documents if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def container(documents, service="gateway"):
    return named(documents, "Deployment", f"flowmeter-{service}")["spec"]["template"]["spec"]["containers"][0]


def spec(documents, kind, name):
    return named(documents, kind, name)["spec"]


def added(documents, **document):
    documents.append({"apiVersion": "v1", **document})


# The finding that is expected, and the mistake.
BY_SCHEMAS = [
    ("'two' is not of type 'integer'", "wrong type", lambda all: spec(all, "Deployment", "flowmeter-gateway").update(replicas="two")),
    ("readynessProbe", "unknown field", lambda all: container(all).update(readynessProbe={})),
    ("has no policy/v1beta1", "removed version", lambda all: named(all, "PodDisruptionBudget", "flowmeter-gateway").update(apiVersion="policy/v1beta1")),
]
BY_REFERENCES = [
    ("selector does not match its pods", "selector mismatch",
     lambda all: spec(all, "Deployment", "flowmeter-gateway")["template"]["metadata"]["labels"].update({"app.kubernetes.io/component": "gate"})),
    ("which container gateway does not have", "probe of a port that is not there",
     lambda all: container(all)["livenessProbe"]["httpGet"].update(port="health")),
    ("has no startupProbe", "missing probe", lambda all: container(all).pop("startupProbe")),
    ("Service flowmeter-gateway: selects no pod", "Service to no pod",
     lambda all: spec(all, "Service", "flowmeter-gateway")["selector"].update({"app.kubernetes.io/component": "gate"})),
    ("which no container has", "Service to a port that is not there",
     lambda all: spec(all, "Service", "flowmeter-gateway")["ports"][0].update(targetPort="web")),
    ("PodDisruptionBudget flowmeter-gateway: selects no pod", "budget of no pod",
     lambda all: spec(all, "PodDisruptionBudget", "flowmeter-gateway")["selector"]["matchLabels"].update(a="b")),
    ("no NetworkPolicy denies", "pod without the default", lambda all: all.remove(named(all, "NetworkPolicy", "flowmeter-default-deny"))),
    ("has no port web", "policy for a port that is not there",
     lambda all: spec(all, "NetworkPolicy", "flowmeter-gateway")["ingress"][0]["ports"][0].update(port="web")),
    ("there is no Service flowmeter-web", "Ingress to no Service",
     lambda all: spec(all, "Ingress", "flowmeter-gateway")["rules"][0]["http"]["paths"][0]["backend"]["service"].update(name="flowmeter-web")),
    ("replicas would be reset", "replicas beside an autoscaler",
     lambda all: added(all, kind="HorizontalPodAutoscaler", metadata={"name": "x"},
                       spec={"scaleTargetRef": {"kind": "Deployment", "name": "flowmeter-gateway"}})),
    ("nothing makes key tokn of Secret flowmeter-operator", "Secret that nobody makes",
     lambda all: next(each for each in container(all)["env"] if each["name"].endswith("OPERATOR_TOKEN"))["valueFrom"]["secretKeyRef"].update(key="tokn")),
    ("is a secret in plain text", "secret in the environment", lambda all: container(all)["env"].append({"name": "API_TOKEN", "value": "abc"})),
    ("refers to PGHOST, which is not set before it", "reference before its variable",
     lambda all: container(all)["env"].append(container(all)["env"].pop(next(n for n, each in enumerate(container(all)["env"]) if each["name"] == "PGHOST")))),
    ("has no setting FLOWMETER__GATEWAY__LISTENS", "misspelt setting",
     lambda all: container(all)["env"].append({"name": "FLOWMETER__GATEWAY__LISTENS", "value": "x"})),
    ("has no fixed version", "tag latest", lambda all: container(all).update(image="registry.example.com:5000/flowmeter:latest")),
    ("has no fixed version", "no tag", lambda all: container(all).update(image="registry.example.com:5000/flowmeter")),
    ("ConfigMap x: url holds a secret", "secret in a ConfigMap",
     lambda all: added(all, kind="ConfigMap", metadata={"name": "x"}, data={"url": "postgres://user:hunter2@host/db"})),
    ("waits for migrations that no Job applies", "no migration of a service",
     lambda all: spec(all, "Job", "flowmeter-migrate")["template"]["spec"]["containers"].pop()),
    ("there is no ServiceAccount flowmeter-migrate", "Job without its account",
     lambda all: all.remove(named(all, "ServiceAccount", "flowmeter-migrate"))),
    ("ServiceAccount flowmeter-migrate is made only after it", "hook before what it needs",
     lambda all: named(all, "ServiceAccount", "flowmeter-migrate")["metadata"]["annotations"].update({"helm.sh/hook-weight": "5"})),
    ("there is no volume nowhere", "mount of no volume",
     lambda all: container(all)["volumeMounts"].append({"name": "nowhere", "mountPath": "/x"})),
]
BY_POLICY = [
    ("CKV_K8S_13 Memory limits should be set: Deployment.flowmeter.flowmeter-gateway", "missing limits",
     lambda all: container(all)["resources"].pop("limits")),
    ("CKV_K8S_16 Container should not be privileged: Deployment.flowmeter.flowmeter-billing", "privileged container",
     lambda all: container(all, "billing")["securityContext"].update(privileged=True)),
    ("CKV_K8S_22 Use read-only filesystem for containers where possible: Deployment.flowmeter.flowmeter-alerts", "writable root",
     lambda all: container(all, "alerts")["securityContext"].pop("readOnlyRootFilesystem")),
]
# Values that are added to the first values file.
BY_VALUES = [
    ("replica", "unknown value", {"gateway": {"replica": 2}}),
    ("got string, want integer", "value of a wrong type", {"gateway": {"replicas": "two"}}),
    ("maximum", "value out of bounds", {"aggregator": {"replicas": 17}}),
    ("pole_interval", "misspelt setting", {"collector": {"settings": {"pole_interval": "5m"}}}),
    ("invalid propertyName", "label of the chart", {"commonLabels": {"app.kubernetes.io/name": "x"}}),
    ("/image/tag", "tag latest", {"image": {"tag": "latest"}}),
    ("alerts.smtpUrl is missing", "missing secret", {"alerts": {"smtpUrl": {"secretKeyRef": None}}}),
    ("has both a value and a secretKeyRef", "value and reference", {"alerts": {"smtpUrl": {"value": "smtp://x"}}}),
    ("would both set its replicas", "two autoscalers",
     {"aggregator": {"autoscaling": {"enabled": True}, "keda": {"enabled": True, "monitoringEndpoint": "nats:8222"}}}),
    ("repeats FLOWMETER__NATS__URL", "repeated variable", {"extraEnv": [{"name": "FLOWMETER__NATS__URL", "value": "nats://x"}]}),
]


class Tally:
    def __init__(self):
        self.passed, self.failed = 0, []

    def expect(self, what, wanted, found):
        found = list(found)
        if any(wanted in each for each in found):
            self.passed += 1
        else:
            self.failed.append(f"{what}: expected a finding with {wanted!r}, found {found}")

    def expect_none(self, what, found):
        found = list(found)
        if found:
            self.failed.append(f"{what}: {found}")
        else:
            self.passed += 1


def with_mistake(documents, mistake):
    documents = copy.deepcopy(documents)
    mistake(documents)
    return documents


def run():
    tally = Tally()
    values = check.VALUES[0]
    text, error = check.render(check.CHART, values)
    if error:
        raise SystemExit(error)
    documents = [each for each in yaml.safe_load_all(text) if each]
    known = check.parse_secrets(check.secrets_script()) | set(check.documented_secrets())
    readable = settings.readable()

    tally.expect_none("schemas, without a mistake", check.validate(documents, check.VERSIONS[-1]))
    for wanted, what, mistake in BY_SCHEMAS:
        tally.expect(f"schemas, {what}", wanted, check.validate(with_mistake(documents, mistake), check.VERSIONS[-1]))

    tally.expect_none("references, without a mistake", rendered.findings(documents, known, readable))
    for wanted, what, mistake in BY_REFERENCES:
        tally.expect(f"references, {what}", wanted, rendered.findings(with_mistake(documents, mistake), known, readable))

    with tempfile.TemporaryDirectory() as folder:
        planted = documents
        for _, _, mistake in BY_POLICY:
            planted = with_mistake(planted, mistake)
        file = pathlib.Path(folder) / "planted.yaml"
        file.write_text(yaml.safe_dump_all(planted))
        found = list(check.policy([file]))
        for wanted, what, _ in BY_POLICY:
            tally.expect(f"policy, {what}", wanted, found)

        for wanted, what, extra in BY_VALUES:
            file = pathlib.Path(folder) / "extra.yaml"
            file.write_text(yaml.safe_dump(extra))
            # Not `helm lint`: it does not see what a template refuses.
            _, error = check.render(check.CHART, values, "--values", file)
            tally.expect(f"values, {what}", wanted, [error] if error else [])

    for document in documents:
        # A server adds its defaults.
        stored = {**copy.deepcopy(document), "status": {}}
        tally.expect_none(f"server, {rendered.name_of(document)}", server.differences(document, stored))
    deployment = named(documents, "Deployment", "flowmeter-gateway")
    for wanted, what, mistake in [
        (".spec.replicas is 1", "not upgraded", lambda stored: stored["spec"].update(replicas=1)),
        (".spec.template.spec.containers[0].startupProbe is missing", "field dropped",
         lambda stored: stored["spec"]["template"]["spec"]["containers"][0].pop("startupProbe")),
        (".spec.template.spec.containers[0].env has other elements", "variable dropped",
         lambda stored: stored["spec"]["template"]["spec"]["containers"][0]["env"].pop()),
    ]:
        tally.expect(f"server, {what}", wanted, server.differences(deployment, with_mistake(deployment, mistake)))

    schema = json.loads((check.CHART / "values.schema.json").read_text())
    schema["properties"]["gateway"]["properties"]["replicas"].pop("maximum")
    tally.expect("schema, no bound", "gateway.replicas has no bounds", reference.undescribed(schema))
    schema["properties"]["gateway"].pop("additionalProperties")
    tally.expect("schema, unknown keys", "gateway accepts unknown keys", reference.undescribed(schema))

    chart = (check.CHART / "Chart.yaml").read_text()
    tally.expect_none("versions, without a mistake", check.versions(chart))
    tally.expect("versions, old chart", "appVersion is", check.versions(chart.replace("appVersion: \"", "appVersion: \"0.")))
    tally.expect("versions, unchecked Kubernetes", "kubeVersion is", check.versions(chart.replace(">=1.", ">=1.2")))

    expected = check.generated()
    tally.expect_none("generated files", check.drift(expected))
    for path in expected:
        tally.expect(f"generated files, {path.name}", "is out of date", check.drift({path: expected[path] + "\n"}))

    for each in tally.failed:
        print(each)
    print(f"self-test: {tally.passed} mistakes and clean states recognised, {len(tally.failed)} not")
    return 1 if tally.failed else 0
