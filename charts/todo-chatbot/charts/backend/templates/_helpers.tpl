{{/* Of every object; the first one alone selects. */}}
{{- define "backend.labels" -}}
app.kubernetes.io/name: backend
app.kubernetes.io/part-of: todo-chatbot
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
