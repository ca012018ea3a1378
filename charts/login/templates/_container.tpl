{{/* What the containers of the pod have in common. */}}

{{- define "login.log" -}}
- name: LOG_FORMAT
  value: {{ .Values.log.format }}
- name: LOG_LEVEL
  value: {{ .Values.log.level }}
{{- end -}}

{{/* Neither root nor able to become it. Group 0 reads the Secret; see deployment.yaml. */}}
{{- define "login.unprivileged" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: 0
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: ["ALL"]
{{- end -}}

{{/* (port address): a port of the machine, if one is asked for. */}}
{{- define "login.hostPort" -}}
{{- if index . 0 -}}
hostPort: {{ index . 0 | int }}
{{- with index . 1 }}
hostIP: {{ . }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* The Secrets that directoryd alone has: a list of name, secret and at. */}}
{{- define "login.directorySecrets" -}}
{{- $directory := .Values.directory -}}
{{- if $directory.bindDN }}
- name: bind-password
  secret: {{ required "directory.bindPasswordSecret.name: which Secret holds the password of directory.bindDN?" $directory.bindPasswordSecret.name }}
  at: /etc/directoryd-secret
{{- end }}
{{- with $directory.clientCertificateSecret }}
- name: directory-client
  secret: {{ . }}
  at: /etc/directoryd-tls
{{- end }}
{{- with $directory.file.secret }}
- name: people
  secret: {{ . }}
  at: /etc/directoryd-people
{{- end }}
{{- with $directory.offlinePasswords.secretName }}
- name: offline-secret
  secret: {{ . }}
  at: /etc/directoryd-offline
{{- end }}
{{- end -}}
