{{/* Names, labels and the few values that are worked out rather than given. */}}

{{- define "login.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* Selectors never carry a version: they cannot be changed on a living Deployment. */}}
{{- define "login.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "login.labels" -}}
{{ include "login.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "login.image" -}}
{{- $repository := required "image.repository: which login image?" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{ $repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ $repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* "true" when a network load balancer of AWS is asked for. */}}
{{- define "login.nlb" -}}
{{- and (eq .Values.service.type "LoadBalancer") .Values.service.nlb.enabled -}}
{{- end -}}

{{/* "true" when a connection from proxyProtocol.from must carry a header. */}}
{{- define "login.proxyRequired" -}}
{{- if kindIs "invalid" .Values.proxyProtocol.required -}}
{{- and (eq (include "login.nlb" .) "true") .Values.service.nlb.proxyProtocol -}}
{{- else -}}
{{- .Values.proxyProtocol.required -}}
{{- end -}}
{{- end -}}

{{/* The volume that holds the homes: exactly one kind. */}}
{{- define "login.home" -}}
{{- $home := .Values.home -}}
{{- $chosen := without (list $home.existingClaim $home.hostPath (ternary "ephemeral" "" $home.ephemeral)) "" -}}
{{- if ne (len $chosen) 1 -}}
{{- fail "home: choose one of existingClaim, hostPath and ephemeral" -}}
{{- end -}}
{{- if $home.existingClaim -}}
persistentVolumeClaim:
  claimName: {{ $home.existingClaim }}
{{- else if $home.hostPath -}}
hostPath:
  path: {{ $home.hostPath }}
  type: Directory
{{- else -}}
emptyDir: {}
{{- end -}}
{{- end -}}

{{/* A value as TOML has it. A list or a text of JSON is one of TOML too; a table is not. */}}
{{- define "login.toml" -}}
{{- if kindIs "map" . -}}
{ {{- $comma := "" }}{{ range $name, $value := . }}{{ $comma }} {{ $name | toJson }} = {{ include "login.toml" $value }}{{ $comma = "," }}{{ end }} }
{{- else -}}
{{ . | toJson }}
{{- end -}}
{{- end -}}

{{/* Keys of a table of TOML. */}}
{{- define "login.keys" -}}
{{- $line := "" -}}
{{- range $key, $value := . }}
{{- $line }}
{{- $line = "\n" }}
{{- $key }} = {{ include "login.toml" $value }}
{{- end }}
{{- end -}}
