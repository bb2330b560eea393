{{/*
A service's environment as a list of entries, in the order in which Kubernetes resolves `$(NAME)`:
{name, value} for plain text, {name, value, secret: true} for what belongs into a Secret, {name, secretKeyRef} for what
is in one already. JSON, because a template returns text only. Arguments: root, service.
*/}}
{{- define "flowmeter.settings" -}}
{{- $values := .root.Values -}}
{{- $own := index $values .service -}}
{{- $section := upper .service -}}
{{- $entries := list -}}
{{- range $name, $value := dict "NAMESPACE" $values.subjectNamespace "OPS__LISTEN" (printf "%s:9100" $values.listenAddress) "TELEMETRY__FORMAT" $values.telemetry.format "TELEMETRY__FILTER" $values.telemetry.filter "TELEMETRY__OTLP_ENDPOINT" $values.telemetry.otlpEndpoint -}}
{{- if $value -}}
{{- $entries = append $entries (dict "name" (printf "FLOWMETER__%s" $name) "value" $value) -}}
{{- end -}}
{{- end -}}
{{- $entries = concat $entries (include "flowmeter.postgres" . | fromJsonArray) (include "flowmeter.nats" . | fromJsonArray) -}}
{{- if $values.migrations.job -}}
{{- $entries = append $entries (dict "name" "FLOWMETER__DATABASE__MIGRATIONS" "value" "check") -}}
{{- end -}}
{{- if has .service (list "collector" "gateway") -}}
{{- $port := ternary "8081" "8080" (eq .service "collector") -}}
{{- $entries = append $entries (dict "name" (printf "FLOWMETER__%s__LISTEN" $section) "value" (printf "%s:%s" $values.listenAddress $port)) -}}
{{- end -}}
{{- if $values.publicUrl -}}
{{- if eq .service "gateway" -}}
{{- $entries = append $entries (dict "name" "FLOWMETER__GATEWAY__PUBLIC_URL" "value" $values.publicUrl) -}}
{{- else if eq .service "alerts" -}}
{{- $entries = append $entries (dict "name" "FLOWMETER__ALERTS__DASHBOARD_URL" "value" $values.publicUrl) -}}
{{- end -}}
{{- else if eq .service "alerts" -}}
{{- fail "publicUrl is missing: mails link to the dashboard" -}}
{{- end -}}
{{- if and (eq .service "alerts") (not $own.settings.from) -}}
{{- fail "alerts.settings.from is missing: the sender of mails" -}}
{{- end -}}
{{- $secrets := dict "collector" (dict "secretKey" true) "aggregator" dict "billing" (dict "stripeKey" false) "alerts" (dict "smtpUrl" true) "gateway" (dict "operatorToken" true "collectorPublicKey" true) -}}
{{- range $key, $required := index $secrets .service -}}
{{- $name := printf "FLOWMETER__%s__%s" $section (snakecase $key | upper) -}}
{{- $entry := include "flowmeter.entry" (dict "name" $name "from" (index $own $key) "secret" (ne $key "collectorPublicKey") "required" $required "path" (printf "%s.%s" $.service $key)) -}}
{{- $entries = concat $entries ($entry | fromJsonArray) -}}
{{- end -}}
{{- range $key, $value := $own.settings -}}
{{- if kindIs "map" $value -}}
{{- range $inner, $each := $value -}}
{{- $entries = append $entries (dict "name" (printf "FLOWMETER__%s__%s__%s" $section (upper $key) (upper $inner)) "value" (include "flowmeter.text" $each)) -}}
{{- end -}}
{{- else if not (kindIs "invalid" $value) -}}
{{- $entries = append $entries (dict "name" (printf "FLOWMETER__%s__%s" $section (upper $key)) "value" (include "flowmeter.text" $value)) -}}
{{- end -}}
{{- end -}}
{{- if include "flowmeter.hasAuthority" .root -}}
{{- /* Beside the image's own authorities: each variable alone would replace them. */ -}}
{{- $entries = append $entries (dict "name" "SSL_CERT_FILE" "value" (printf "/etc/flowmeter/authority/%s" $values.certificateAuthority.key)) -}}
{{- $entries = append $entries (dict "name" "SSL_CERT_DIR" "value" "/etc/ssl/certs") -}}
{{- end -}}
{{- toJson $entries -}}
{{- end -}}

{{/* What the task `migrate` of a service needs: its connection to Postgres, and the form of its log. Arguments: root, service. */}}
{{- define "flowmeter.migrationSettings" -}}
{{- $telemetry := .root.Values.telemetry -}}
{{- $entries := list (dict "name" "FLOWMETER__TELEMETRY__FORMAT" "value" $telemetry.format) (dict "name" "FLOWMETER__TELEMETRY__FILTER" "value" $telemetry.filter) -}}
{{- toJson (concat $entries (include "flowmeter.postgres" . | fromJsonArray)) -}}
{{- end -}}

{{/* A number without an exponent: Helm reads every number of a values file as a float. */}}
{{- define "flowmeter.text" -}}
{{- if kindIs "float64" . -}}{{- printf "%.0f" . -}}{{- else if kindIs "slice" . -}}{{- join "," . -}}{{- else -}}{{- toString . -}}{{- end -}}
{{- end -}}

{{/* One entry, or none if it is optional and missing. Arguments: name, from, secret, required, path. */}}
{{- define "flowmeter.entry" -}}
{{- $from := .from | default dict -}}
{{- if and $from.value $from.secretKeyRef -}}
{{- fail (printf "%s has both a value and a secretKeyRef: set one of them to null" .path) -}}
{{- else if $from.secretKeyRef -}}
{{- toJson (list (dict "name" .name "secretKeyRef" $from.secretKeyRef)) -}}
{{- else if $from.value -}}
{{- toJson (list (dict "name" .name "value" (include "flowmeter.text" $from.value) "secret" .secret)) -}}
{{- else if .required -}}
{{- fail (printf "%s is missing: give it a value or a secretKeyRef" .path) -}}
{{- else -}}
[]
{{- end -}}
{{- end -}}

{{/* The service's connection to Postgres: a URI, or one composed of its parts. Arguments: root, service. */}}
{{- define "flowmeter.postgres" -}}
{{- $postgres := deepCopy .root.Values.postgres -}}
{{- range $key, $value := (index .root.Values .service).postgres -}}
{{- $_ := set $postgres $key $value -}}
{{- end -}}
{{- $entries := list -}}
{{- if or $postgres.url.value $postgres.url.secretKeyRef -}}
{{- $entries = include "flowmeter.entry" (dict "name" "FLOWMETER__DATABASE__URL" "from" $postgres.url "secret" true "path" "postgres.url") | fromJsonArray -}}
{{- else -}}
{{- /* The driver itself reads PGPASSWORD, so that a password needs no percent-encoding. */ -}}
{{- range $part, $name := dict "host" "PGHOST" "port" "PGPORT" "user" "PGUSER" "password" "PGPASSWORD" "database" "PGDATABASE" -}}
{{- $path := printf "postgres.%s (or %s.postgres.%s)" $part $.service $part -}}
{{- $entries = concat $entries (include "flowmeter.entry" (dict "name" $name "from" (index $postgres $part) "secret" (eq $part "password") "required" true "path" $path) | fromJsonArray) -}}
{{- end -}}
{{- $options := list (printf "sslmode=%s" $postgres.sslMode) -}}
{{- if include "flowmeter.hasRoot" .root -}}
{{- $options = append $options (printf "sslrootcert=/etc/flowmeter/postgres/%s" .root.Values.postgres.rootCertificate.key) -}}
{{- end -}}
{{- $url := printf "postgres://$(PGUSER)@$(PGHOST):$(PGPORT)/$(PGDATABASE)?%s" (join "&" $options) -}}
{{- $entries = append $entries (dict "name" "FLOWMETER__DATABASE__URL" "value" $url) -}}
{{- end -}}
{{- $entries = append $entries (dict "name" "FLOWMETER__DATABASE__CONNECTIONS_MAX" "value" (include "flowmeter.text" $postgres.connectionsMax)) -}}
{{- toJson $entries -}}
{{- end -}}

{{/* The service's connection to the broker. Arguments: root, service. */}}
{{- define "flowmeter.nats" -}}
{{- $nats := deepCopy .root.Values.nats -}}
{{- range $key, $value := (index .root.Values .service).nats -}}
{{- $_ := set $nats $key $value -}}
{{- end -}}
{{- $entries := list -}}
{{- if or $nats.url.value $nats.url.secretKeyRef -}}
{{- $entries = include "flowmeter.entry" (dict "name" "FLOWMETER__NATS__URL" "from" $nats.url "secret" true "path" "nats.url") | fromJsonArray -}}
{{- else -}}
{{- range $part, $name := dict "host" "FLOWMETER_NATS_HOST" "port" "FLOWMETER_NATS_PORT" -}}
{{- $entries = concat $entries (include "flowmeter.entry" (dict "name" $name "from" (index $nats $part) "secret" false "required" true "path" (printf "nats.%s" $part)) | fromJsonArray) -}}
{{- end -}}
{{- $scheme := ternary "tls" "nats" $nats.tls -}}
{{- $entries = append $entries (dict "name" "FLOWMETER__NATS__URL" "value" (printf "%s://$(FLOWMETER_NATS_HOST):$(FLOWMETER_NATS_PORT)" $scheme)) -}}
{{- end -}}
{{- $user := $nats.user -}}
{{- $password := $nats.password -}}
{{- if or $password.value $password.secretKeyRef -}}
{{- if not (or $user.value $user.secretKeyRef) -}}
{{- $user = dict "value" .service -}}
{{- end -}}
{{- $entries = concat $entries (include "flowmeter.entry" (dict "name" "FLOWMETER__NATS__USER" "from" $user "secret" false "path" "nats.user") | fromJsonArray) -}}
{{- $entries = concat $entries (include "flowmeter.entry" (dict "name" "FLOWMETER__NATS__PASSWORD" "from" $password "secret" true "path" "nats.password") | fromJsonArray) -}}
{{- end -}}
{{- range $key, $name := dict "replicas" "REPLICAS" "executionsBytesMax" "EXECUTIONS_BYTES_MAX" "eventsBytesMax" "EVENTS_BYTES_MAX" "patience" "PATIENCE" -}}
{{- $entries = append $entries (dict "name" (printf "FLOWMETER__NATS__%s" $name) "value" (include "flowmeter.text" (index $nats $key))) -}}
{{- end -}}
{{- toJson $entries -}}
{{- end -}}

{{- define "flowmeter.hasAuthority" -}}
{{- with .Values.certificateAuthority -}}{{- if or .secretName .configMapName -}}true{{- end -}}{{- end -}}
{{- end -}}

{{- define "flowmeter.hasRoot" -}}
{{- with .Values.postgres.rootCertificate -}}{{- if or .secretName .configMapName -}}true{{- end -}}{{- end -}}
{{- end -}}

{{/* A service's environment. Arguments: root, service. */}}
{{- define "flowmeter.env" -}}
{{- include "flowmeter.entries" (dict "entries" (include "flowmeter.settings" . | fromJsonArray) "secret" (include "flowmeter.name" .)) -}}
{{- end -}}

{{/* The entries as Kubernetes wants them. Arguments: entries, secret: the Secret that the chart makes for them. */}}
{{- define "flowmeter.entries" -}}
{{- $secret := .secret -}}
{{- range .entries }}
- name: {{ .name }}
{{- if .secretKeyRef }}
  valueFrom:
    secretKeyRef:
      name: {{ .secretKeyRef.name | quote }}
      key: {{ .secretKeyRef.key | quote }}
{{- else if .secret }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ .name }}
{{- else }}
  value: {{ .value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* What belongs into the Secret that the chart makes for a service; empty if nothing does. Arguments: root, service; entries: others
than the service's settings. */}}
{{- define "flowmeter.secretData" -}}
{{- range .entries | default (include "flowmeter.settings" . | fromJsonArray) }}
{{- if .secret }}
{{ .name }}: {{ .value | b64enc | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Kubernetes merges a list of variables by name: one that is there twice is lost or kept by chance. Arguments: entries, extra, service. */}}
{{- define "flowmeter.refuseRepeated" -}}
{{- $names := list -}}
{{- range .entries -}}{{- $names = append $names .name -}}{{- end -}}
{{- range .extra -}}
{{- if has .name $names -}}
{{- fail (printf "extraEnv of %s repeats %s: the chart or an earlier entry sets it" $.service .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- end -}}
