{{/* Certificates, and what the values add. Arguments: root, service. */}}

{{- define "flowmeter.mounts" -}}
{{- $own := index .root.Values .service -}}
{{- if include "flowmeter.hasAuthority" .root }}
- name: authority
  mountPath: /etc/flowmeter/authority
  readOnly: true
{{- end }}
{{- if include "flowmeter.hasRoot" .root }}
- name: postgres-root
  mountPath: /etc/flowmeter/postgres
  readOnly: true
{{- end }}
{{- with concat (.root.Values.extraVolumeMounts | default list) ($own.extraVolumeMounts | default list) }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "flowmeter.volumes" -}}
{{- $own := index .root.Values .service -}}
{{- if include "flowmeter.hasAuthority" .root }}
{{ include "flowmeter.certificates" (dict "name" "authority" "from" .root.Values.certificateAuthority) }}
{{- end }}
{{- if include "flowmeter.hasRoot" .root }}
{{ include "flowmeter.certificates" (dict "name" "postgres-root" "from" .root.Values.postgres.rootCertificate) }}
{{- end }}
{{- with concat (.root.Values.extraVolumes | default list) ($own.extraVolumes | default list) }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* One key of a Secret or ConfigMap: such a Secret often holds the authority's private key too. Arguments: name, from. */}}
{{- define "flowmeter.certificates" -}}
- name: {{ .name }}
  {{- if .from.secretName }}
  secret:
    secretName: {{ .from.secretName }}
  {{- else }}
  configMap:
    name: {{ .from.configMapName }}
  {{- end }}
    items:
      - key: {{ .from.key }}
        path: {{ .from.key }}
{{- end -}}
