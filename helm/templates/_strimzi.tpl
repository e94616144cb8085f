{{/*
The names of the event topics, without the prefix. (the root)
*/}}
{{- define "sluice.eventTopics" -}}
{{- $providers := .Files.Get "files/providers.yaml" | fromYaml -}}
{{- $names := list -}}
{{- range $_, $source := .Values.settings.sources -}}
{{- $known := (get $providers ($source.provider | toString) | default dict).types | default list -}}
{{- range concat $known ($source.events | default list) (list "other") -}}
{{- $names = append $names (printf "events.%s.%s" $source.provider (toString . | replace "_" "-")) -}}
{{- end -}}
{{- end -}}
{{- $names | uniq | sortAlpha | toYaml -}}
{{- end }}

{{/*
The object's name for a topic. Kubernetes has no capitals and no underscores in names; where they are replaced, a
hash keeps two topics apart.
*/}}
{{- define "sluice.topicObject" -}}
{{- $plain := . | lower | replace "_" "-" | trimPrefix "." | trimPrefix "-" -}}
{{- if eq $plain . }}{{ . }}{{ else }}{{ printf "%s-%s" ($plain | trunc 240) (sha256sum . | trunc 8) }}{{ end -}}
{{- end }}

{{/*
The rights of a user. (root, component)
*/}}
{{- define "sluice.acls" -}}
{{- $settings := include "sluice.effective" .root | fromYaml -}}
{{- $prefix := $settings.topics.prefix -}}
{{- $group := printf "%s%s" $prefix $settings.processor.group -}}
{{- $create := $settings.topics.create | ternary ", Create" "" -}}
{{- if eq .component "ingest" -}}
- resource: {type: topic, name: {{ $prefix }}webhooks.raw, patternType: literal}
  operations: [Describe, DescribeConfigs, Write{{ $create }}]
{{- else if eq .component "processor" -}}
- resource: {type: topic, name: {{ $prefix }}webhooks.raw, patternType: literal}
  operations: [Describe, DescribeConfigs, Read{{ $create }}]
{{- range list "webhooks.dedup-log" "webhooks.duplicates" "webhooks.rejected" "webhooks.dead-letter" }}
- resource: {type: topic, name: {{ $prefix }}{{ . }}, patternType: literal}
  operations: [Describe, DescribeConfigs, Read, Write{{ $create }}]
{{- end }}
# By prefix: a source that is new in the settings or gone from them needs no change here.
- resource: {type: topic, name: {{ $prefix }}events., patternType: prefix}
  operations: [Describe, DescribeConfigs, Read, Write{{ $create }}]
- resource: {type: group, name: {{ $group }}, patternType: literal}
  operations: [Describe, Read]
- resource: {type: transactionalId, name: {{ $group }}., patternType: prefix}
  operations: [Describe, Write]
{{- else -}}
- resource: {type: group, name: {{ $group }}, patternType: literal}
  operations: [Describe]
{{- range list "webhooks." "events." }}
- resource: {type: topic, name: {{ $prefix }}{{ . }}, patternType: prefix}
  operations: [Describe, DescribeConfigs, Read]
{{- end }}
{{- end -}}
{{- end }}
