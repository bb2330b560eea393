#!/usr/bin/env bash
# Prints Secrets with new random passwords, as YAML: `./secrets.sh | kubectl --namespace flowmeter apply -f -`.
#
# They fit values/flowmeter-cluster.yaml, values/nats.yaml and values/postgres.yaml. Run it once: a second run makes other
# passwords, and another pair of keys, without which the sources' API keys cannot be read any more. Stripe's key and the
# mail server come from the environment: STRIPE_KEY (may be empty) and SMTP_URL.
set -euo pipefail
: "${SMTP_URL:?the mail server, e.g. smtps://user:password@mail.example.com}"

# The letter matters: the broker's configuration may read a word that begins with a digit as a number.
random() { echo "p$(openssl rand -hex 24)"; }

secret() { # TYPE NAME KEY VALUE [KEY VALUE]...
  printf -- '---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\n  labels: {app.kubernetes.io/part-of: flowmeter-secrets}\ntype: %s\ndata:\n' "$2" "$1"
  shift 2
  while [ $# -gt 0 ]; do
    printf '  %s: %s\n' "$1" "$(printf %s "$2" | base64 | tr -d '\n')"
    shift 2
  done
}

key=$(mktemp)
trap 'rm -f "$key"' EXIT
openssl genpkey -algorithm X25519 -outform DER -out "$key"
# The last 32 bytes of both encodings are the key itself; `flowmeter keys` makes the same.
secret_key=$(tail -c 32 "$key" | base64)
public_key=$(openssl pkey -inform DER -in "$key" -pubout -outform DER | tail -c 32 | base64)

for service in collector aggregator billing alerts gateway; do
  secret kubernetes.io/basic-auth "flowmeter-postgres-$service" username "$service" password "$(random)"
done
secret Opaque flowmeter-nats \
  collector "$(random)" aggregator "$(random)" billing "$(random)" alerts "$(random)" gateway "$(random)" operator "$(random)"
secret Opaque flowmeter-collector-key secret_key "$secret_key" public_key "$public_key"
secret Opaque flowmeter-operator token "$(random)"
secret Opaque flowmeter-mail url "$SMTP_URL"
# Empty: usage is recorded and nothing is reported.
secret Opaque flowmeter-stripe key "${STRIPE_KEY:-}"
