{{/* The chart's name, at most 63 characters as labels demand. */}}
{{- define "portable-lb.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The prefix of the names of objects: the release's name, with the chart's unless it is in there. */}}
{{- define "portable-lb.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "portable-lb.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "portable-lb.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "portable-lb.operatorName" -}}
{{- printf "%s-operator" (include "portable-lb.fullname" .) -}}
{{- end -}}

{{- define "portable-lb.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "portable-lb.operatorName" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Labels of every object. */}}
{{- define "portable-lb.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: portable-lb
{{ include "portable-lb.selectorLabels" . }}
{{- end -}}

{{/* Labels by which the release's own objects are told from others. They never change. */}}
{{- define "portable-lb.selectorLabels" -}}
app.kubernetes.io/name: {{ include "portable-lb.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The operator's pods. */}}
{{- define "portable-lb.operatorSelector" -}}
{{ include "portable-lb.selectorLabels" . }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* One image: registry/repository:tag@digest. Takes the root and the image's values. */}}
{{- define "portable-lb.image" -}}
{{- $registry := default .image.registry .root.Values.global.imageRegistry -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- .image.repository -}}:{{- default .root.Chart.AppVersion .image.tag -}}
{{- with .image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* What a container of the release's own namespace may: nothing. */}}
{{- define "portable-lb.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "portable-lb.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* The groups and names of objects that outlive the release carry this, so that plbs keep serving. A new install takes them over. */}}
{{- define "portable-lb.keep" -}}
helm.sh/resource-policy: keep
{{- end -}}
