"""Installs, upgrades, rolls back and removes the chart on a real kube-apiserver: see dev/check-kubernetes.sh --server.

Objects only: no image is needed, and no pod has to run. What is compared is what the server stores after it has applied its
schemas, defaults, admission and the server's own validation.
"""

import json
import pathlib
import re
import secrets
import subprocess

import yaml

import check
import rendered

# Automake's code for a skipped test.
SKIPPED = 77
RELEASE = "flowmeter"
# Custom kinds of the chart, and the values that leave them out where the server does not have them.
OPTIONAL = {
    "servicemonitors.monitoring.coreos.com": ["serviceMonitor.enabled=false"],
    "httproutes.gateway.networking.k8s.io": ["gateway.httpRoute.enabled=false", "collector.httpRoute.enabled=false"],
    "scaledobjects.keda.sh": ["aggregator.keda.enabled=false"],
}
# The upgrade changes these.
CHANGED = ["alerts.replicas=3", "subjectNamespace=upgraded"]


class Failed(Exception):
    pass


def run(*command, text=None):
    done = subprocess.run([str(each) for each in command], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command[:4]))} ...: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def reason_to_skip(context):
    """Why nothing can be checked here, or None."""
    try:
        answer = run("kubectl", "--context", context, "version", "--output", "json", "--request-timeout", "5s")
    except FileNotFoundError:
        return "there is no kubectl"
    except Failed as error:
        return f"kubectl reaches no server by the context {context}: {error}"
    server = json.loads(answer)["serverVersion"]
    found = int(server["major"]), int(re.match(r"\d+", server["minor"]).group())
    oldest = tuple(int(part) for part in check.VERSIONS[0].split("."))
    if found < oldest:
        return f"the server is Kubernetes {found[0]}.{found[1]}, the chart needs {check.VERSIONS[0]}"
    print(f"Server: Kubernetes {server['gitVersion']}")
    return None


class Cluster:
    def __init__(self, context):
        self.context = context
        self.namespace = f"flowmeter-check-{secrets.token_hex(4)}"
        self.without = []

    def kubectl(self, *arguments, text=None):
        return run("kubectl", "--context", self.context, "--namespace", self.namespace, *arguments, text=text)

    def helm(self, *arguments):
        return run("helm", "--kube-context", self.context, "--namespace", self.namespace, *arguments)

    def values(self, file, extra=()):
        # No image can be pulled for a check, so the Job could not end; its manifests are checked apart.
        settings = ["migrations.job=false", *self.without, *extra]
        return ["--values", file, *(part for each in settings for part in ("--set", each))]

    def optional(self):
        """Custom kinds that the server has; the others are left out, and said."""
        names = self.kubectl("api-resources", "--output", "name").split()
        for kind, values in OPTIONAL.items():
            if kind not in names:
                print(f"Without {kind}: the server does not have it")
                self.without += values

    def expected(self, file, extra=()):
        text = self.helm("template", RELEASE, check.CHART, "--no-hooks", *self.values(file, extra))
        return [each for each in yaml.safe_load_all(text) if each]

    def compare(self, documents, what):
        """The stored objects have every field of the rendered ones."""
        for document in documents:
            kind = f"{document['kind']}.{document['apiVersion'].partition('/')[0]}" if "/" in document["apiVersion"] else document["kind"]
            stored = json.loads(self.kubectl("get", kind, document["metadata"]["name"], "--output", "json"))
            for place in differences(document, stored):
                raise Failed(f"{what}: {rendered.name_of(document)}: {place}")
        print(f"{what}: {len(documents)} objects as rendered")


def differences(wanted, stored, place=""):
    """Places where a stored object lacks what was rendered; what the server adds is its own."""
    if isinstance(wanted, dict):
        if not isinstance(stored, dict):
            yield f"{place} is {stored!r}"
            return
        for key, value in wanted.items():
            # An empty value is stored as none.
            if value in ({}, [], None, ""):
                continue
            if key not in stored:
                yield f"{place}.{key} is missing"
            else:
                yield from differences(value, stored[key], f"{place}.{key}")
    elif isinstance(wanted, list):
        if not isinstance(stored, list) or len(stored) != len(wanted):
            yield f"{place} has other elements"
            return
        for number, (one, other) in enumerate(zip(wanted, stored)):
            yield from differences(one, other, f"{place}[{number}]")
    elif quantity(wanted) != quantity(stored):
        yield f"{place} is {stored!r}, rendered {wanted!r}"


def quantity(value):
    return str(value).removesuffix(".0")


def round_trip(cluster, file):
    before = cluster.expected(file)
    after = cluster.expected(file, CHANGED)
    cluster.helm("install", RELEASE, check.CHART, *cluster.values(file))
    cluster.compare(before, f"{file.name}: installed")
    cluster.helm("upgrade", RELEASE, check.CHART, *cluster.values(file, CHANGED))
    cluster.compare(after, f"{file.name}: upgraded")
    cluster.helm("rollback", RELEASE, "1")
    cluster.compare(before, f"{file.name}: rolled back")
    cluster.helm("uninstall", RELEASE, "--wait", "--timeout", "2m")
    left = cluster.kubectl("get", "all,networkpolicy,pdb,secret,serviceaccount", "--selector", "app.kubernetes.io/part-of=flowmeter", "--output", "name")
    # Pods of a Deployment that was removed are collected a little later.
    left = [each for each in left.split() if not each.startswith(("pod/", "replicaset."))]
    if left:
        raise Failed(f"{file.name}: left after uninstall: {' '.join(left)}")
    print(f"{file.name}: removed")


def check_on(context):
    why = reason_to_skip(context)
    if why:
        print(f"Skipped: {why}")
        return SKIPPED
    cluster = Cluster(context)
    run("kubectl", "--context", context, "create", "namespace", cluster.namespace)
    try:
        cluster.optional()
        for file in check.VALUES:
            round_trip(cluster, pathlib.Path(file))
        for manifest in (check.MANIFESTS, check.MIGRATE):
            # Their namespace is fixed: only the server's opinion is asked.
            text = manifest.read_text().replace("namespace: flowmeter\n", f"namespace: {cluster.namespace}\n")
            cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "--filename", "-", text=text)
            print(f"{manifest.name}: accepted by the server")
    except Failed as error:
        print(error)
        return 1
    finally:
        subprocess.run(["kubectl", "--context", context, "delete", "namespace", cluster.namespace, "--wait=false"],
                       capture_output=True, check=False)
    return 0
