{{/* The name of all objects. A long one would not leave room for what is appended: it is cut, and a digest
tells it apart from others that begin alike. */}}
{{- define "parley.name" -}}
{{- $name := default .Release.Name .Values.nameOverride -}}
{{- if gt (len $name) 40 -}}
{{- printf "%s-%s" (trunc 31 $name | trimSuffix "-") (sha256sum $name | trunc 8) -}}
{{- else -}}
{{- $name -}}
{{- end -}}
{{- end -}}

{{- define "parley.labels" -}}
app.kubernetes.io/name: parley
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "parley.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end -}}
{{- end -}}

{{/* What a stop may take: the sleep before it, the drain, and ten seconds more. */}}
{{- define "parley.graceS" -}}
{{- add .Values.stop.delayS (ceil .Values.drainS) 10 -}}
{{- end -}}

{{- define "parley.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001 # the image's own
fsGroup: 10001 # may read secrets of mode 0440: libpq takes no key that all may read
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "parley.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{/* What a setting looks like in the environment: numbers without an exponent, true and false as 1 and 0. */}}
{{- define "parley.setting" -}}
{{- if kindIs "bool" . }}{{ ternary "1" "0" . }}
{{- else if kindIs "float64" . }}{{ if eq (float64 (int64 .)) . }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- else }}{{ . }}{{ end -}}
{{- end -}}

{{- define "parley.fromSecret" -}}
valueFrom:
  secretKeyRef: { name: {{ .secret | quote }}, key: {{ .key | quote }} }
{{- end -}}

{{/* What the schema cannot say, for it takes more than one value. */}}
{{- define "parley.check" -}}
{{- $v := .Values -}}
{{- $name := include "parley.name" . -}}
{{- if not (regexMatch "^[a-z]([a-z0-9-]*[a-z0-9])?$" $name) -}}
  {{- fail (printf "%s cannot be the name of a Service, which begins with a letter and has letters, digits and dashes: set nameOverride" $name) -}}
{{- end -}}
{{- if and $v.agent.name $v.agent.file -}}
  {{- fail "agent.name and agent.file are both set: choose one" -}}
{{- else if not (or $v.agent.name $v.agent.file) -}}
  {{- fail "set agent.name, for example openai:gpt-5-mini, or agent.file, the text of an agents file" -}}
{{- end -}}
{{- if regexMatch "(?m)^\\s*(api_key|token)\\s*=\\s*[\"'][^$\"']" $v.agent.file -}}
  {{- fail "agent.file: api_key and token have to be $VARIABLES, given under secrets: the file becomes a ConfigMap" -}}
{{- end -}}
{{- $keys := without (list $v.auth.jwksUrl $v.auth.keys.secret $v.auth.hs256.secret) "" -}}
{{- if ne 1 (len $keys) -}}
  {{- fail (printf "set one of auth.jwksUrl, auth.keys.secret and auth.hs256.secret: %d are set" (len $keys)) -}}
{{- end -}}
{{- $turnS := default 120 $v.settings.chat_timeout_s -}}
{{- if le (float64 $v.drainS) (float64 $turnS) -}}
  {{- fail (printf "drainS, %v, must be longer than a turn may take, settings.chat_timeout_s, %v: a restart would cut turns" $v.drainS $turnS) -}}
{{- end -}}
{{- if and $v.tls.clientCa (not $v.tls.secret) -}}
  {{- fail "tls.clientCa: set tls.secret too" -}}
{{- end -}}
{{- if and $v.tls.probeSecret (not $v.tls.clientCa) -}}
  {{- fail "tls.probeSecret is presented only where tls.clientCa is set: set it, or leave tls.probeSecret out" -}}
{{- end -}}
{{- $policy := $v.networkPolicy -}}
{{- $database := default (dict) $policy.database -}}
{{- $dns := default (dict) $policy.dns -}}
{{- range $path, $value := dict "callers" $policy.callers "metricsReaders" $policy.metricsReaders
    "database.peers" $database.peers "database.port" $database.port "dns.peers" $dns.peers "dns.port" $dns.port -}}
  {{- if and $policy.enabled (not $value) -}}
    {{- fail (printf "networkPolicy.%s is null: to Kubernetes, that is everyone" $path) -}}
  {{- end -}}
{{- end -}}
{{- if $v.autoscaling.enabled -}}
  {{- if not $v.metrics.enabled -}}
    {{- fail "autoscaling goes by metrics: set metrics.enabled" -}}
  {{- end -}}
  {{- if gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas) -}}
    {{- fail "autoscaling.minReplicas is more than autoscaling.maxReplicas" -}}
  {{- end -}}
{{- end -}}
{{- end -}}
