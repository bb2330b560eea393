"""Checks of rendered manifests that no schema can express: what refers to what."""

import base64
import re

WORKLOADS = ("Deployment", "StatefulSet", "Job")
SECRET_WORDS = re.compile(r"(?i)(password|secret|token|stripe_?key|api_?key)")
REFERENCE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


def findings(documents, made_secrets, readable):
    """Everything that is wrong. `made_secrets` has (name, key) of the Secrets that exist when the manifests are applied,
    `readable` the variables that each service knows."""
    objects = [document for document in documents if document]
    pods = [(name_of(each), *pod_of(each)) for each in objects if pod_of(each)]
    yield from twice(objects)
    yield from selectors(objects)
    yield from services(objects, pods)
    yield from policies(objects, pods)
    yield from targets(objects)
    yield from hooks(objects, pods)
    own = {(each["metadata"]["name"], key) for each in objects if each["kind"] == "Secret" for key in each.get("data", {})}
    for name, _, spec in pods:
        for container in spec.get("initContainers", []) + spec["containers"]:
            yield from ports(name, container)
            yield from image(name, container)
            yield from environment(name, container, own | made_secrets, readable)
            yield from mounts(name, container, spec)
        yield from volumes(name, spec, own | made_secrets)
    yield from plain_secrets(objects)


def name_of(each):
    return f"{each['kind']} {each['metadata']['name']}"


def pod_of(each):
    """Labels and spec of an object's pods."""
    if each["kind"] == "Pod":
        return each["metadata"].get("labels", {}), each["spec"]
    if each["kind"] in WORKLOADS:
        template = each["spec"]["template"]
        return template["metadata"].get("labels", {}), template["spec"]
    return None


def matches(selector, labels):
    return all(labels.get(key) == value for key, value in (selector or {}).items())


def twice(objects):
    seen = set()
    for each in objects:
        if name_of(each) in seen:
            yield f"{name_of(each)} is there twice"
        seen.add(name_of(each))


def selectors(objects):
    for each in objects:
        if each["kind"] != "Deployment":
            continue
        selector = each["spec"]["selector"]["matchLabels"]
        labels, spec = pod_of(each)
        if not matches(selector, labels):
            yield f"{name_of(each)}: its selector does not match its pods' labels"
        for constraint in spec.get("topologySpreadConstraints", []):
            if not matches(constraint["labelSelector"]["matchLabels"], labels):
                yield f"{name_of(each)}: a topology spread constraint does not match its pods"
        account = spec.get("serviceAccountName")
        if not any(other["kind"] == "ServiceAccount" and other["metadata"]["name"] == account for other in objects):
            yield f"{name_of(each)}: there is no ServiceAccount {account}"
    for each in objects:
        if each["kind"] != "PodDisruptionBudget":
            continue
        selector = each["spec"]["selector"]["matchLabels"]
        if not any(matches(selector, pod_of(other)[0]) for other in objects if pod_of(other)):
            yield f"{name_of(each)}: selects no pod"


def port_names(spec):
    return {port.get("name") for container in spec["containers"] for port in container.get("ports", [])}


def port_numbers(spec):
    return {port["containerPort"] for container in spec["containers"] for port in container.get("ports", [])}


def services(objects, pods):
    for each in objects:
        if each["kind"] != "Service":
            continue
        reached = [spec for _, labels, spec in pods if matches(each["spec"].get("selector"), labels)]
        if not each["spec"].get("selector") or not reached:
            yield f"{name_of(each)}: selects no pod"
        if len(reached) > 1:
            yield f"{name_of(each)}: selects the pods of several workloads"
        for port in each["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            for spec in reached:
                if target not in port_names(spec) | port_numbers(spec):
                    yield f"{name_of(each)}: port {port.get('name')} goes to {target}, which no container has"


def policies(objects, pods):
    covered = set()
    for each in objects:
        if each["kind"] != "NetworkPolicy":
            continue
        selector = each["spec"]["podSelector"].get("matchLabels", {})
        selected = [(name, spec) for name, labels, spec in pods if matches(selector, labels)]
        if not selected and "test" not in selector.values():
            yield f"{name_of(each)}: selects no pod"
        if not each["spec"].get("ingress") and not each["spec"].get("egress"):
            covered.update(name for name, _ in selected)
        for rule in each["spec"].get("ingress", []):
            for port in rule.get("ports", []):
                for name, spec in selected:
                    if port["port"] not in port_names(spec) | port_numbers(spec):
                        yield f"{name_of(each)}: {name} has no port {port['port']}"
    if any(each["kind"] == "NetworkPolicy" for each in objects):
        for name, _, _ in pods:
            if name not in covered:
                yield f"{name}: no NetworkPolicy denies everything by default"


def targets(objects):
    names = {name_of(each) for each in objects}
    fixed = {name_of(each) for each in objects if each["kind"] == "Deployment" and "replicas" in each["spec"]}
    for each in objects:
        spec = each.get("spec", {})
        if each["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
            target = f"{spec['scaleTargetRef']['kind']} {spec['scaleTargetRef']['name']}"
            if target not in names:
                yield f"{name_of(each)}: there is no {target}"
            if target in fixed:
                yield f"{target}: its replicas would be reset by each upgrade, because {name_of(each)} sets them too"
        if each["kind"] == "Ingress":
            for rule in spec["rules"]:
                for path in rule["http"]["paths"]:
                    service = path["backend"]["service"]
                    yield from backend(each, objects, service["name"], "name", service["port"]["name"])
        if each["kind"] == "HTTPRoute":
            for rule in spec["rules"]:
                for reference in rule["backendRefs"]:
                    yield from backend(each, objects, reference["name"], "port", reference["port"])
        if each["kind"] == "ServiceMonitor":
            found = [other for other in objects if other["kind"] == "Service"
                     and matches(spec["selector"]["matchLabels"], other["metadata"]["labels"])]
            wanted = {endpoint["port"] for endpoint in spec["endpoints"]}
            if not found:
                yield f"{name_of(each)}: selects no Service"
            for other in found:
                if not wanted <= {port["name"] for port in other["spec"]["ports"]}:
                    yield f"{name_of(each)}: {name_of(other)} has no port {', '.join(wanted)}"


def hooks(objects, pods):
    """What a hook's pods need is made by an earlier hook: the rest of the release is not there yet."""
    def weight(each):
        annotations = each["metadata"].get("annotations", {})
        before = "pre-install" in annotations.get("helm.sh/hook", "")
        return int(annotations.get("helm.sh/hook-weight", "0")) if before else None

    early = {name_of(each): weight(each) for each in objects if weight(each) is not None}
    made = {name_of(each) for each in objects}
    for each in objects:
        if each["kind"] != "Job":
            continue
        _, spec = pod_of(each)
        needed = {f"ServiceAccount {spec.get('serviceAccountName')}"}
        for container in spec["containers"]:
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                # The Secret of somebody else is there before the release.
                if reference and f"Secret {reference['name']}" in made:
                    needed.add(f"Secret {reference['name']}")
        for name in sorted(needed):
            if name not in made:
                yield f"{name_of(each)}: there is no {name}"
            elif weight(each) is not None and early.get(name, weight(each)) >= weight(each):
                yield f"{name_of(each)}: {name} is made only after it"
    migrated = {container["name"] for name, _, spec in pods if name.startswith("Job ") for container in spec["containers"]
                if container.get("command", [])[1:] == ["migrate"]}
    for name, _, spec in pods:
        for container in spec["containers"]:
            checks = any(variable["name"] == "FLOWMETER__DATABASE__MIGRATIONS" and variable.get("value") == "check"
                         for variable in container.get("env", []))
            if checks and container["name"] not in migrated:
                yield f"{name}: waits for migrations that no Job applies"


def backend(each, objects, service, key, port):
    for other in objects:
        if other["kind"] == "Service" and other["metadata"]["name"] == service:
            if port not in [each_port[key] for each_port in other["spec"]["ports"]]:
                yield f"{name_of(each)}: Service {service} has no port {port}"
            return
    yield f"{name_of(each)}: there is no Service {service}"


def ports(name, container):
    own = container.get("ports", [])
    known = {port.get("name") for port in own} | {port["containerPort"] for port in own}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if own and probe not in container:
            yield f"{name}: container {container['name']} has no {probe}"
        for way in ("httpGet", "tcpSocket"):
            port = container.get(probe, {}).get(way, {}).get("port")
            if port is not None and port not in known:
                yield f"{name}: {probe} asks port {port}, which container {container['name']} does not have"


def image(name, container):
    text = container["image"]
    tag = text.rsplit("/", 1)[-1].partition(":")[2]
    if "@sha256:" not in text and tag in ("", "latest"):
        yield f"{name}: image {text} has no fixed version"


def environment(name, container, secrets, readable):
    service = container["name"] if container.get("command", [""])[0].startswith("flowmeter-") else None
    seen = set()
    for variable in container.get("env", []):
        variable_name = variable["name"]
        if variable_name in seen:
            yield f"{name}: {variable_name} is set twice"
        for used in REFERENCE.findall(variable.get("value") or ""):
            if used not in seen:
                yield f"{name}: {variable_name} refers to {used}, which is not set before it"
        seen.add(variable_name)
        if SECRET_WORDS.search(variable_name) and variable.get("value"):
            yield f"{name}: {variable_name} is a secret in plain text"
        reference = variable.get("valueFrom", {}).get("secretKeyRef")
        if reference and (reference["name"], reference["key"]) not in secrets:
            yield f"{name}: nothing makes key {reference['key']} of Secret {reference['name']}, and docs/kubernetes.md does not list it"
        if service and variable_name.startswith("FLOWMETER__") and variable_name not in readable[service]:
            yield f"{name}: {service} has no setting {variable_name}"


def mounts(name, container, spec):
    known = {volume["name"] for volume in spec.get("volumes", [])}
    for mount in container.get("volumeMounts", []):
        if mount["name"] not in known:
            yield f"{name}: there is no volume {mount['name']}"


def volumes(name, spec, secrets):
    for volume in spec.get("volumes", []):
        if "secret" in volume:
            for item in volume["secret"]["items"]:
                if (volume["secret"]["secretName"], item["key"]) not in secrets:
                    yield f"{name}: nothing makes key {item['key']} of Secret {volume['secret']['secretName']}"


def plain_secrets(objects):
    for each in objects:
        if each["kind"] == "ConfigMap":
            for key, value in (each.get("data") or {}).items():
                if SECRET_WORDS.search(key) or re.search(r"(?i)(password|secret|token)\s*[:=]\s*[^\s$<]|://[^/\s:]+:[^@\s$]+@", value):
                    yield f"{name_of(each)}: {key} holds a secret"
        if each["kind"] == "Secret":
            for key, value in (each.get("data") or {}).items():
                if not base64.b64decode(value, validate=True):
                    yield f"{name_of(each)}: {key} is empty"
