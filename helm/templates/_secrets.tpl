{{/*
Which Secrets and ConfigMaps a pod has as files. Ingest never gets those of the providers: only the processor
verifies signatures.
*/}}

{{- define "sluice.secretGroups" -}}
{{- if eq .component "ingest" -}}
groups: [shared, ingest]
{{- else if eq .component "processor" -}}
groups: [shared, providers, registry, processor]
{{- else -}}
groups: [shared, providers, registry, operator]
{{- end -}}
{{- end }}

{{/*
The name of the Secret that an ExternalSecret makes. (root; external)
*/}}
{{- define "sluice.externalSecretName" -}}
{{- printf "%s-%s" (include "sluice.fullname" .root) .external.name -}}
{{- end }}

{{/*
The sources of the projected volume, or nothing. (root, component)
*/}}
{{- define "sluice.secretSources" -}}
{{- $root := .root -}}
{{- $component := .component -}}
{{- $sources := list -}}
{{- range $group := (include "sluice.secretGroups" . | fromYaml).groups -}}
{{- range $entry := get $root.Values.secrets $group -}}
{{- $source := pick $entry "items" "optional" -}}
{{- if $entry.configMap -}}
{{- $sources = append $sources (dict "configMap" (merge (dict "name" $entry.configMap) $source)) -}}
{{- else if $entry.externalSecret -}}
{{- $name := include "sluice.externalSecretName" (dict "root" $root "external" $entry.externalSecret) -}}
{{- $sources = append $sources (dict "secret" (merge (dict "name" $name) $source)) -}}
{{- else -}}
{{- $sources = append $sources (dict "secret" (merge (dict "name" $entry.secret) $source)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $root.Values.ingest.tls.enabled (eq $component "ingest") -}}
{{- $items := list (dict "key" "tls.crt" "path" "tls.crt") (dict "key" "tls.key" "path" "tls.key") -}}
{{- $sources = append $sources (dict "secret" (dict "name" (include "sluice.tlsSecretName" $root) "items" $items)) -}}
{{- end -}}
{{- if and $root.Values.strimzi.enabled $root.Values.strimzi.users.enabled -}}
{{- $sources = concat $sources (include "sluice.strimziSources" . | fromYamlArray) -}}
{{- end -}}
{{- with $sources }}{{ toYaml . }}{{ end -}}
{{- end }}

{{/*
The Secret of Strimzi's user and the authority of the brokers' certificates, under the names that the settings
use. Strimzi's Secret does not hold the user's name, so a ConfigMap does. (root, component)
*/}}
{{- define "sluice.strimziSources" -}}
{{- $strimzi := .root.Values.strimzi -}}
- secret:
    name: {{ include "sluice.kafkaUser" . }}
    items:
      {{- if eq $strimzi.users.authentication "tls" }}
      - {key: user.crt, path: kafka-user.crt}
      - {key: user.key, path: kafka-user.key}
      {{- else }}
      - {key: password, path: kafka-password}
      {{- end }}
{{- if ne $strimzi.users.authentication "tls" }}
- configMap:
    name: {{ include "sluice.fullname" .root }}-kafka-users
    items:
      - {key: {{ .component }}, path: kafka-username}
{{- end }}
- secret:
    name: {{ default (printf "%s-cluster-ca-cert" $strimzi.cluster) $strimzi.users.caSecret }}
    items:
      - {key: ca.crt, path: kafka-ca.crt}
{{- end }}
