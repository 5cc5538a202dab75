{{/* What selects the pods of one component, and nothing else. */}}
{{- define "todo-chatbot.selector" -}}
app: todo-chatbot
component: {{ . }}
{{- end }}

{{/* Labels that only inform. */}}
{{- define "todo-chatbot.labels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
