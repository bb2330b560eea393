"""Runs every check of deploy/kubernetes: see dev/check-kubernetes.sh."""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import kubernetes_validate
import yaml

import reference
import rendered
import settings

ROOT = settings.ROOT
KUBERNETES = ROOT / "deploy/kubernetes"
CHART = KUBERNETES / "flowmeter"
MANIFESTS = KUBERNETES / "manifests/flowmeter.yaml"
# Apart: a Job is replaced by each release, and applied before the rest.
MIGRATE = KUBERNETES / "manifests/migrate/migrate.yaml"
# The manifests are rendered from the first one.
VALUES = [KUBERNETES / "values/flowmeter-cluster.yaml", KUBERNETES / "values/flowmeter-small.yaml", CHART / "ci/everything-values.yaml"]

# The oldest version that the chart accepts (kubeVersion), and the newest whose schemas are known.
VERSIONS = ("1.30", "1.37")

# Kinds of operators: no schema is at hand, so only rendered.py looks at them.
CUSTOM = {("monitoring.coreos.com/v1", "ServiceMonitor"), ("gateway.networking.k8s.io/v1", "HTTPRoute"), ("keda.sh/v1alpha1", "ScaledObject")}

# Checkov's rules that do not apply, each with its reason.
NOT_APPLIED = {
    "CKV_K8S_43": "digest: `image.digest` sets one; an example cannot know it",
    "CKV_K8S_15": "pull policy Always: versions have their own tag, and a registry that is down would stop a restart",
    "CKV_K8S_35": "secrets as files: the services read their settings from the environment, as Compose and systemd give them",
}
# The pod of `helm test` runs once and ends.
NOT_APPLIED_TO_TEST = {"CKV_K8S_8", "CKV_K8S_9"}


def run(*command, text=None):
    return subprocess.run([str(each) for each in command], input=text, capture_output=True, text=True, check=False)


def render(chart, values, *options):
    """The manifests of a values file, and an error message if there are none."""
    command = ("helm", "template", "flowmeter", chart, "--namespace", "flowmeter", "--values", values)
    done = run(*command, *options)
    return done.stdout, done.stderr.strip() if done.returncode else None


def lint(chart, values):
    done = run("helm", "lint", "--strict", chart, "--values", values)
    return [] if done.returncode == 0 else [f"helm lint with {values.name}: {done.stdout.strip()} {done.stderr.strip()}"]


def validate(documents, version):
    """Wrong types, unknown fields and unknown kinds, by the schemas of one version of Kubernetes."""
    for document in documents:
        if not document or (document.get("apiVersion"), document.get("kind")) in CUSTOM:
            continue
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError as error:
            yield f"{rendered.name_of(document)}: Kubernetes {version} has no {document['apiVersion']} ({error})"
        except kubernetes_validate.ValidationError as error:
            place = ".".join(str(each) for each in error.path)
            yield f"{rendered.name_of(document)}: Kubernetes {version}: {place}: {error.message}"


def policy(files):
    """Checkov's findings in rendered files: which rule, and where."""
    skipped = ",".join(NOT_APPLIED)
    done = run("checkov", "--framework", "kubernetes", "--skip-download", "--output", "json", "--quiet", "--compact",
               "--skip-check", skipped, *(part for file in files for part in ("--file", file)))
    try:
        reports = json.loads(done.stdout)
    except json.JSONDecodeError:
        yield f"checkov failed: {done.stderr.strip()[-500:]}"
        return
    for report in reports if isinstance(reports, list) else [reports]:
        if "results" not in report:
            yield "checkov has checked nothing"
            return
        for failed in report["results"]["failed_checks"]:
            if not (failed["check_id"] in NOT_APPLIED_TO_TEST and failed["resource"].startswith("Pod.")):
                yield f"checkov {failed['check_id']} {failed['check_name']}: {failed['resource']}"


def parse_secrets(text):
    """(name, key) of the Secrets in manifests."""
    found = [each for each in yaml.safe_load_all(text) if each and each["kind"] == "Secret"]
    return {(each["metadata"]["name"], key) for each in found for key in each["data"]}


def documented_secrets():
    """The table of Secrets in docs/kubernetes.md: rows of `name` and `key`, `key`."""
    for line in (ROOT / "docs/kubernetes.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 3 and re.fullmatch(r"`[-a-z0-9]+`", cells[1]):
            for key in re.findall(r"`([-._a-zA-Z0-9]+)`", cells[2]):
                yield cells[1].strip("`"), key


def secrets_script():
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "SMTP_URL": "smtps://mail.example.com", "STRIPE_KEY": "sk_test_check"}
    done = subprocess.run([str(KUBERNETES / "secrets.sh")], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"deploy/kubernetes/secrets.sh fails: {done.stderr}")
    return done.stdout


def neighbours(made):
    """values/nats.yaml and values/postgres.yaml: users, roles and Secrets fit the rest."""
    nats = yaml.safe_load((KUBERNETES / "values/nats.yaml").read_text())
    users = nats["config"]["merge"]["authorization"]["users"]
    expected = re.findall(r"\{ user: (\w+), password: \$(\w+), permissions: \$(\w+) \}", (ROOT / "deploy/nats/nats.conf").read_text())
    found = [(each["user"], *(re.sub(r"^<< \$(\w+) >>$", r"\1", each[key]) for key in ("password", "permissions"))) for each in users]
    if found != expected or not expected:
        yield "values/nats.yaml: its users are not those of deploy/nats/nats.conf"
    for _, password, _ in found:
        source = nats["container"]["env"].get(password, {}).get("valueFrom", {}).get("secretKeyRef", {})
        if (source.get("name"), source.get("key")) not in made:
            yield f"values/nats.yaml: nothing makes the password {password}"
    documents = list(yaml.safe_load_all((KUBERNETES / "values/postgres.yaml").read_text()))
    (cluster,) = [each for each in documents if each["kind"] == "Cluster"]
    roles = {role["name"]: role["passwordSecret"]["name"] for role in cluster["spec"]["managed"]["roles"]}
    if sorted(roles) != sorted(settings.SERVICES):
        yield "values/postgres.yaml: its roles are not the services"
    for name in roles.values():
        if not {(name, "username"), (name, "password")} <= made:
            yield f"values/postgres.yaml: nothing makes the Secret {name}"


def plain(text):
    """Rendered manifests without what only Helm needs."""
    text = re.sub(r"^ +annotations:\n((?: +helm\.sh/hook[-a-z]*: .*\n)+)", "", text, flags=re.M)
    lines = [line for line in text.splitlines()
             if line.strip() and not re.match(r"\s*(# Source:|helm\.sh/chart:|app\.kubernetes\.io/managed-by:)", line)]
    header = "# Rendered from ../flowmeter with ../values/flowmeter-cluster.yaml: `dev/check-kubernetes.sh --write`.\n"
    return header + "\n".join(lines) + "\n"


def generated():
    """The generated files, and what they should be."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    text, error = render(CHART, VALUES[0], "--no-hooks")
    job, job_error = render(CHART, VALUES[0], "--show-only", "templates/migrations.yaml")
    if error or job_error:
        raise SystemExit(error or job_error)
    return {CHART / "README.md": reference.render(schema, values), MANIFESTS: plain(text), MIGRATE: plain(job)}


def versions(chart):
    """The chart's version is that of the services, and its oldest Kubernetes the one that is checked."""
    described = yaml.safe_load(chart)
    release = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.M).group(1)
    for key in ("version", "appVersion"):
        if described[key] != release:
            yield f"Chart.yaml: {key} is {described[key]}, the services are {release}"
    if described["kubeVersion"] != f">={VERSIONS[0]}.0-0":
        yield f"Chart.yaml: kubeVersion is {described['kubeVersion']}, checked from {VERSIONS[0]}"


def drift(expected):
    for path, text in expected.items():
        if not path.exists() or path.read_text() != text:
            yield f"{path.relative_to(ROOT)} is out of date: run dev/check-kubernetes.sh --write"


def check():
    found = list(reference.undescribed(json.loads((CHART / "values.schema.json").read_text())))
    found += settings.compare()
    found += versions((CHART / "Chart.yaml").read_text())
    found += drift(generated())
    made = parse_secrets(secrets_script())
    found += neighbours(made)
    known = made | set(documented_secrets())
    readable = settings.readable()
    objects = 0
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for values in VALUES:
            found += lint(CHART, values)
            text, error = render(CHART, values)
            if error:
                found.append(f"helm template with {values.name}: {error}")
                continue
            documents = [each for each in yaml.safe_load_all(text) if each]
            objects += len(documents)
            for version in VERSIONS:
                found += (f"{values.name}: {each}" for each in validate(documents, version))
            found += (f"{values.name}: {each}" for each in rendered.findings(documents, known, readable))
            file = pathlib.Path(folder) / values.name
            file.write_text(text)
            files.append(file)
        found += policy(files)
    texts = [path.read_text() for path in (MANIFESTS, MIGRATE) if path.exists()]
    manifests = [each for text in texts for each in yaml.safe_load_all(text) if each]
    found += (f"manifests: {each}" for each in rendered.findings(manifests, known, readable))
    if not found:
        print(f"deploy/kubernetes: {objects} objects from {len(VALUES)} values files, no findings for Kubernetes {' and '.join(VERSIONS)}")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the manifests and the reference of values anew")
    parser.add_argument("--self-test", action="store_true", help="plant mistakes and expect each to be found")
    parser.add_argument("--server", metavar="CONTEXT", help="install, upgrade and roll back on the server of a context of kubectl")
    arguments = parser.parse_args()
    if arguments.write:
        for path, text in generated().items():
            path.write_text(text)
        return 0
    if arguments.self_test:
        import self_test
        return self_test.run()
    if arguments.server:
        import server
        return server.check_on(arguments.server)
    found = check()
    for each in found:
        print(each, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
