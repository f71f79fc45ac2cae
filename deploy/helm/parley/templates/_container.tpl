{{/* A worker's environment. Secrets come from Secrets alone. */}}
{{- define "parley.env" -}}
{{- $v := .Values -}}
{{- if $v.agent.name }}
- { name: PARLEY_AGENT, value: {{ $v.agent.name | quote }} }
{{- else }}
- { name: PARLEY_AGENTS_FILE, value: /etc/parley/agents/agents.toml }
{{- end }}
{{- if $v.auth.jwksUrl }}
- { name: PARLEY_AUTH_JWKS_URL, value: {{ $v.auth.jwksUrl | quote }} }
{{- else if $v.auth.keys.secret }}
- { name: PARLEY_AUTH_KEYS_FILE, value: {{ printf "/etc/parley/keys/%s" $v.auth.keys.file | quote }} }
{{- else }}
- name: PARLEY_AUTH_HS256_SECRET
  {{- include "parley.fromSecret" $v.auth.hs256 | nindent 2 }}
{{- end }}
- { name: PARLEY_AUTH_ISSUER, value: {{ $v.auth.issuer | quote }} }
- { name: PARLEY_AUTH_AUDIENCE, value: {{ $v.auth.audience | quote }} }
- { name: PARLEY_DRAIN_S, value: {{ include "parley.setting" $v.drainS | quote }} }
{{- if $v.metrics.enabled }}
- { name: PARLEY_METRICS_LISTEN, value: "0.0.0.0:9464" }
{{- end }}
{{- if $v.traces.endpoint }}
- { name: PARLEY_TRACES, value: otlp }
- { name: PARLEY_TRACES_SAMPLE, value: {{ include "parley.setting" $v.traces.sample | quote }} }
- { name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ $v.traces.endpoint | quote }} }
{{- end }}
{{- if $v.tls.secret }}
- { name: PARLEY_TLS_CERT_FILE, value: /etc/parley/tls/tls.crt }
- { name: PARLEY_TLS_KEY_FILE, value: /etc/parley/tls/tls.key }
{{- if $v.tls.clientCa }}
- { name: PARLEY_TLS_CLIENT_CA_FILE, value: /etc/parley/tls/ca.crt }
{{- if $v.tls.probeSecret }}
- { name: PARLEY_CERT_FILE, value: /etc/parley/probe-tls/tls.crt }
- { name: PARLEY_KEY_FILE, value: /etc/parley/probe-tls/tls.key }
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $value := $v.settings }}
- { name: PARLEY_{{ upper $name }}, value: {{ include "parley.setting" $value | quote }} }
{{- end }}
- name: PARLEY_DATABASE_URL # the role that works on the tables
  {{- include "parley.fromSecret" $v.database | nindent 2 }}
{{- range $name, $from := $v.secrets }}
- name: {{ $name }}
  {{- include "parley.fromSecret" $from | nindent 2 }}
{{- end }}
{{- with $v.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Kubernetes' own gRPC probe speaks no TLS: with it, the probe is a command. */}}
{{- define "parley.probe" -}}
{{- if not .root.Values.tls.secret -}}
grpc: { port: 50051, service: {{ .service }} }
{{- else if eq .service "liveness" -}}
exec: { command: [parley-server, check, --liveness] }
{{- else -}}
exec: { command: [parley-server, check] }
{{- end -}}
{{- end -}}

{{- define "parley.dnsEgress" -}}
{{- with .Values.networkPolicy.dns -}}
- to: {{ toYaml .peers | nindent 4 }}
  ports:
    - { port: {{ .port }}, protocol: UDP }
    - { port: {{ .port }}, protocol: TCP }
{{- end -}}
{{- end -}}

{{- define "parley.databaseEgress" -}}
- to: {{ toYaml .peers | nindent 4 }}
  ports:
    - { port: {{ .port }} }
{{- end -}}
