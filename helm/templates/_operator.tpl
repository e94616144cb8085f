{{/*
The spec of a pod that runs sluicectl once. (root, args; pod: its values where they are not those of checkJob;
configMap, serviceAccountName, env)
*/}}
{{- define "sluice.operatorPod" -}}
{{- $root := .root -}}
{{- $pod := .pod | default $root.Values.checkJob -}}
{{- include "sluice.podFields" (dict "root" $root "pod" $pod "serviceAccountName" .serviceAccountName) }}
restartPolicy: Never
containers:
  - name: sluicectl
    command: [/usr/bin/sluicectl]
    args:
      {{- toYaml .args | nindent 6 }}
    {{- include "sluice.containerFields" (dict "root" $root "pod" $pod) | nindent 4 }}
    env:
      {{- include "sluice.env" (dict "container" "sluicectl") | nindent 6 }}
      {{- with .env }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      {{- with $pod.extraEnv }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    volumeMounts:
      {{- include "sluice.mounts" (dict "root" $root "component" "operator") | nindent 6 }}
      {{- with $pod.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  {{- include "sluice.volumes" (dict "root" $root "component" "operator" "configMap" .configMap) | nindent 2 }}
  {{- with $pod.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/*
The spec of a Job that runs a command of sluicectl. Nothing but 75 (try again), an eviction or a kill is worth
another attempt. (root, args)
*/}}
{{- define "sluice.operatorJob" -}}
{{- $root := .root -}}
{{- $ctl := $root.Values.sluicectl -}}
{{- $check := $root.Values.checkJob -}}
{{- $pod := set (deepCopy $check) "resources" $ctl.resources -}}
{{- $account := $check.serviceAccountName | default (include "sluice.serviceAccountName" $root) -}}
backoffLimit: {{ $ctl.backoffLimit | int }}
podFailurePolicy:
  rules:
    - action: FailJob
      onExitCodes: {containerName: sluicectl, operator: In, values: [1, 2, 78]}
template:
  metadata:
    labels:
      {{- include "sluice.podLabels" (dict "root" $root "component" "operator" "labels" $check.podLabels) | nindent 6 }}
    {{- with merge (dict) $check.podAnnotations $root.Values.commonAnnotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    {{- include "sluice.operatorPod" (dict "root" $root "args" .args "pod" $pod "serviceAccountName" $account) | nindent 4 }}
{{- end }}

{{/*
Where ingest takes webhooks, within the cluster.
*/}}
{{- define "sluice.url" -}}
{{- $ingest := .Values.ingest -}}
{{- printf "%s://%s-ingest.%s:%d" (ternary "https" "http" $ingest.tls.enabled) (include "sluice.fullname" .) (include "sluice.namespace" .) (int $ingest.service.port) -}}
{{- end }}

{{/*
The source that helm test and the notes send to: the one that is named, else the first that is enabled and takes
requests from everywhere by their signature alone.
*/}}
{{- define "sluice.testSource" -}}
{{- $found := .Values.checkJob.test.source -}}
{{- range $name, $source := include "sluice.sources" . | fromYaml -}}
{{- if not (or $found $source.token_sha256 $source.require_headers $source.client_ca_file $source.allow_from (eq (toString $source.enabled) "false")) -}}
{{- $found = $name -}}
{{- end -}}
{{- end -}}
{{- $found -}}
{{- end }}

{{/*
Whether there is something to run for helm test. (the root)
*/}}
{{- define "sluice.tests" -}}
{{- if and .Values.checkJob.test.enabled (include "sluice.testSource" .) }}yes{{ end -}}
{{- end }}

{{/*
The pod that empties the spool of a claim, with ingest's credentials. (root, pod, args, claim)
*/}}
{{- define "sluice.drainTemplate" -}}
{{- $root := .root -}}
{{- $ingest := dict "root" $root "component" "ingest" -}}
metadata:
  labels:
    {{- include "sluice.podLabels" (dict "root" $root "component" "drain" "labels" .pod.podLabels) | nindent 4 }}
  {{- with merge (dict) (.pod.podAnnotations | default dict) $root.Values.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "sluice.podFields" (dict "root" $root "pod" .pod) | nindent 2 }}
  restartPolicy: Never
  containers:
    - name: drain
      command: [/usr/bin/sluice-ingest]
      args:
        {{- toYaml .args | nindent 8 }}
      {{- include "sluice.containerFields" (dict "root" $root "pod" .pod) | nindent 6 }}
      env:
        {{- include "sluice.env" (dict "container" "drain") | nindent 8 }}
        {{- with .pod.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      volumeMounts:
        {{- include "sluice.mounts" $ingest | nindent 8 }}
        - name: spool
          mountPath: {{ include "sluice.spoolMount" . }}
        {{- with .pod.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    {{- include "sluice.volumes" $ingest | nindent 4 }}
    - name: spool
      persistentVolumeClaim:
        claimName: {{ .claim }}
    {{- with .pod.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
