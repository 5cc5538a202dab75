{{/* Labels of every object; part is frontend, backend or empty. */}}
{{- define "todo-chatbot.labels" -}}
app: {{ .name }}
app.kubernetes.io/part-of: todo-chatbot
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* A CPU quantity in millicores. */}}
{{- define "todo-chatbot.millicores" -}}
{{- if hasSuffix "m" . }}{{ trimSuffix "m" . | float64 }}{{ else }}{{ mulf (float64 .) 1000.0 }}{{ end }}
{{- end }}

{{/* A memory quantity in bytes. */}}
{{- define "todo-chatbot.bytes" -}}
{{- $factors := dict "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "k" 1000.0 "M" 1000000.0 "G" 1000000000.0 "T" 1000000000000.0 }}
{{- $unit := regexFind "[A-Za-z]+$" . }}
{{- mulf (float64 (trimSuffix $unit .)) (get $factors $unit) }}
{{- end }}

{{/* The resources of one part; limits below requests end the rendering. Takes a list: root, part. */}}
{{- define "todo-chatbot.resources" -}}
{{- $part := index . 1 }}
{{- $it := index (index . 0).Values.resources $part }}
{{- if lt (include "todo-chatbot.bytes" $it.limits.memory | float64) (include "todo-chatbot.bytes" $it.requests.memory | float64) }}
{{- fail (printf "resources.%s.limits.memory %s is less than its request %s" $part $it.limits.memory $it.requests.memory) }}
{{- end }}
{{- if lt (include "todo-chatbot.millicores" $it.limits.cpu | float64) (include "todo-chatbot.millicores" $it.requests.cpu | float64) }}
{{- fail (printf "resources.%s.limits.cpu %s is less than its request %s" $part $it.limits.cpu $it.requests.cpu) }}
{{- end }}
{{- toYaml $it }}
{{- end }}

{{/* MCP_CONFIG as it was given; what is no JSON ends the rendering. */}}
{{- define "todo-chatbot.mcpConfig" -}}
{{- $parsed := fromJson .Values.secrets.mcpConfig }}
{{- if hasKey $parsed "Error" }}
{{- fail (printf "secrets.mcpConfig is no JSON object: %s" $parsed.Error) }}
{{- end }}
{{- .Values.secrets.mcpConfig }}
{{- end }}
