{{/*
Names, labels and the image.
*/}}

{{- define "sluice.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/*
At most 40 characters: a StatefulSet's name and the hash behind it must fit a label of 63, and so must
"-drain-9999-12345678" behind this name. A longer name is cut and gets a hash, so that two releases with a
common beginning do not meet.
*/}}
{{- define "sluice.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := .Release.Name -}}
{{- if .Values.fullnameOverride -}}
{{- $full = .Values.fullnameOverride -}}
{{- else if not (contains $name .Release.Name) -}}
{{- $full = printf "%s-%s" .Release.Name $name -}}
{{- end -}}
{{- if gt (len $full) 40 -}}
{{- $full = printf "%s-%s" ($full | trunc 31 | trimSuffix "-") ($full | sha256sum | trunc 8) -}}
{{- end -}}
{{- $full | trimSuffix "-" -}}
{{- end }}

{{- define "sluice.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end }}

{{/*
What selects the pods of a component. It never changes: selectors are immutable. (root, component)
*/}}
{{- define "sluice.selectorLabels" -}}
app.kubernetes.io/name: {{ include "sluice.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/*
Labels of a pod. No version is among them: a new chart alone restarts nothing. (root, component, labels)
*/}}
{{- define "sluice.podLabels" -}}
{{- $own := include "sluice.selectorLabels" . | fromYaml -}}
{{- merge (dict) $own (.labels | default dict) .root.Values.commonLabels | toYaml -}}
{{- end }}

{{/*
The metadata of an object. (root, component; name, labels, annotations, namespace where they differ)
*/}}
{{- define "sluice.metadata" -}}
{{- $root := .root -}}
{{- $own := include "sluice.selectorLabels" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/version" $root.Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "sluice" -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63) -}}
name: {{ .name | default (printf "%s-%s" (include "sluice.fullname" $root) .component) }}
namespace: {{ .namespace | default (include "sluice.namespace" $root) }}
labels:
  {{- merge (dict) $own (.labels | default dict) $root.Values.commonLabels | toYaml | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/*
A digest overrides the tag; global.imageRegistry overrides the registry.
*/}}
{{- define "sluice.image" -}}
{{- $image := .Values.image -}}
{{- $registry := default $image.registry (.Values.global | default dict).imageRegistry -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default .Chart.AppVersion $image.tag }}{{ end -}}
{{- end }}

{{- define "sluice.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "sluice.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "sluice.configMapName" -}}
{{- default (printf "%s-settings" (include "sluice.fullname" .)) .Values.existingConfigMap -}}
{{- end }}

{{/*
The Secret that cert-manager writes, for ingest itself or for the Ingress.
*/}}
{{- define "sluice.certificateSecretName" -}}
{{- default (printf "%s-ingest-tls" (include "sluice.fullname" .)) .Values.ingest.certificate.secretName -}}
{{- end }}

{{- define "sluice.tlsSecretName" -}}
{{- default (include "sluice.certificateSecretName" .) .Values.ingest.tls.existingSecret -}}
{{- end }}

{{/*
The name of a service's Kafka user at Strimzi, which is also that of its Secret. (root, component)
*/}}
{{- define "sluice.kafkaUser" -}}
{{- printf "%s-%s" (include "sluice.fullname" .root) .component -}}
{{- end }}
