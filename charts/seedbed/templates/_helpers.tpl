{{/* Name of everything in the release; short enough for a Lease, a Role and a label. */}}
{{- define "seedbed.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "seedbed.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "seedbed.labels" -}}
{{ include "seedbed.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "seedbed.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "seedbed.name" .) }}
{{- end }}

{{- define "seedbed.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* Comma-separated; never empty. */}}
{{- define "seedbed.watchNamespaces" -}}
{{- .Values.watchNamespaces | default (list .Release.Namespace) | sortAlpha | join "," }}
{{- end }}
