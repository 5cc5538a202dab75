{{/* Labels of every object. Takes a list: root, the value of app. */}}
{{- define "todo-chatbot.labels" -}}
{{- $root := index . 0 -}}
app: {{ index . 1 }}
app.kubernetes.io/part-of: todo-chatbot
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- end }}
