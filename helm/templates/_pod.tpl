{{/*
What the pods of both workloads and of the operator's Jobs have in common.
*/}}

{{/*
Fields of a pod's spec. (root; pod: values with nodeSelector and the like; serviceAccountName where it differs)
*/}}
{{- define "sluice.podFields" -}}
{{- $root := .root -}}
{{- $pod := .pod -}}
serviceAccountName: {{ .serviceAccountName | default (include "sluice.serviceAccountName" $root) }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with concat ($root.Values.image.pullSecrets | default list) (($root.Values.global | default dict).imagePullSecrets | default list) }}
imagePullSecrets:
  {{- range . }}
  - name: {{ if kindIs "string" . }}{{ . }}{{ else }}{{ .name }}{{ end }}
  {{- end }}
{{- end }}
{{- with $root.Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with $pod.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- with $pod.schedulerName }}
schedulerName: {{ . | quote }}
{{- end }}
{{- with $pod.dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
{{- with $pod.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/*
Fields of Sluice's own container: image, environment, what it may do and take. (root, pod)
*/}}
{{- define "sluice.containerFields" -}}
{{- $root := .root -}}
image: {{ include "sluice.image" $root | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
{{- with $root.Values.containerSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pod.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pod.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/*
The environment that each process has. (container: its name)
*/}}
{{- define "sluice.env" -}}
- name: SLUICE_CONFIG
  value: {{ include "sluice.configDir" . }}/settings.yaml
- name: K8S_NAMESPACE_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: K8S_POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: K8S_POD_UID
  valueFrom: {fieldRef: {fieldPath: metadata.uid}}
- name: K8S_NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
- name: K8S_CONTAINER_NAME
  value: {{ .container }}
{{- end }}

{{/*
Whole directories: Kubernetes never renews a subPath, so nothing behind one could be reloaded. (root, component)
*/}}
{{- define "sluice.mounts" -}}
- name: config
  mountPath: {{ include "sluice.configDir" . }}
  readOnly: true
{{- if include "sluice.secretSources" . }}
- name: secrets
  mountPath: {{ include "sluice.secretsDir" . }}
  readOnly: true
{{- end }}
{{- end }}

{{/*
(root, component; configMap where it differs)
*/}}
{{- define "sluice.volumes" -}}
- name: config
  configMap:
    name: {{ .configMap | default (include "sluice.configMapName" .root) }}
{{- with include "sluice.secretSources" . }}
- name: secrets
  projected:
    # 0440: the files belong to root, and fsGroup lets the process read them.
    defaultMode: 0440
    sources:
      {{- . | nindent 6 }}
{{- end }}
{{- end }}

{{/*
The pod of ingest or the processor. (root, component, workload: its values; env and mounts: more of them)
*/}}
{{- define "sluice.podTemplate" -}}
{{- $root := .root -}}
{{- $component := .component -}}
{{- $workload := .workload -}}
metadata:
  labels:
    {{- include "sluice.podLabels" (dict "root" $root "component" $component "labels" $workload.podLabels) | nindent 4 }}
  {{- $annotations := merge (dict) ($workload.podAnnotations | default dict) $root.Values.commonAnnotations }}
  {{- if and $workload.restartOnSettings (not $root.Values.existingConfigMap) }}
  {{- $_ := set $annotations "checksum/settings" (include "sluice.restartChecksum" .) }}
  {{- end }}
  {{- with $annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "sluice.podFields" (dict "root" $root "pod" $workload) | nindent 2 }}
  terminationGracePeriodSeconds: {{ $workload.terminationGracePeriodSeconds | int }}
  {{- with include "sluice.topologySpread" . }}
  topologySpreadConstraints:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with $workload.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ $component }}
      command: [/usr/bin/sluice-{{ $component }}]
      {{- include "sluice.containerFields" (dict "root" $root "pod" $workload) | nindent 6 }}
      env:
        {{- include "sluice.env" (dict "container" $component) | nindent 8 }}
        {{- with .env }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with $workload.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        {{- if eq $component "ingest" }}
        - {name: http, containerPort: 8080, protocol: TCP}
        - {name: admin, containerPort: 9090, protocol: TCP}
        {{- else }}
        - {name: admin, containerPort: 9091, protocol: TCP}
        {{- end }}
      {{- range $probe := list "startupProbe" "livenessProbe" "readinessProbe" }}
      {{- with get $workload $probe }}
      {{ $probe }}:
        httpGet:
          path: {{ if eq $probe "readinessProbe" }}/readyz{{ else }}/livez{{ end }}
          port: admin
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- end }}
      {{- if and $workload.preStopSeconds (semverCompare ">=1.30.0-0" $root.Capabilities.KubeVersion.Version) }}
      lifecycle:
        preStop:
          sleep:
            seconds: {{ $workload.preStopSeconds | int }}
      {{- end }}
      volumeMounts:
        {{- include "sluice.mounts" . | nindent 8 }}
        {{- with .mounts }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with $workload.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with $workload.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "sluice.volumes" (dict "root" $root "component" $component) | nindent 4 }}
    {{- with $workload.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/*
null: over zones and hosts as far as that is possible. A constraint without a selector gets the component's.
(root, component, workload)
*/}}
{{- define "sluice.topologySpread" -}}
{{- $selector := dict "matchLabels" (include "sluice.selectorLabels" . | fromYaml) -}}
{{- $constraints := .workload.topologySpreadConstraints -}}
{{- if kindIs "invalid" $constraints -}}
{{- $constraints = list -}}
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" -}}
{{- $constraints = append $constraints (dict "maxSkew" 1 "topologyKey" . "whenUnsatisfiable" "ScheduleAnyway") -}}
{{- end -}}
{{- end -}}
{{- $whole := list -}}
{{- range $constraints -}}
{{- $whole = append $whole (kindIs "invalid" .labelSelector | ternary (set (deepCopy .) "labelSelector" $selector) .) -}}
{{- end -}}
{{- with $whole }}{{ toYaml . }}{{ end -}}
{{- end }}
