{{/*
The names of the event topics, without the prefix. (the root)
*/}}
{{- define "sluice.eventTopics" -}}
{{- $providers := .Files.Get "files/providers.yaml" | fromYaml -}}
{{- $names := list -}}
{{- range $_, $source := include "sluice.sources" . | fromYaml -}}
{{- $known := (get $providers ($source.provider | toString) | default dict).types | default list -}}
{{- range concat $known ($source.events | default list) (list "other") -}}
{{- $names = append $names (printf "events.%s.%s" $source.provider (toString . | replace "_" "-")) -}}
{{- end -}}
{{- end -}}
{{- $names | uniq | sortAlpha | toYaml -}}
{{- end }}

{{/*
Whether sluicectl subscribes a source at its provider, and so keeps ids on a topic. (the root)
*/}}
{{- define "sluice.subscriptions" -}}
{{- range $_, $source := include "sluice.sources" . | fromYaml -}}
{{- if get ($source.options | default dict) "subscribe" }}yes{{ end -}}
{{- end -}}
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
The rights of a user: the list of schemas/src/acl.rs, rule for rule. READ and WRITE imply DESCRIBE. (root, component)
*/}}
{{- define "sluice.acls" -}}
{{- $settings := include "sluice.effective" .root | fromYaml -}}
{{- $prefix := $settings.topics.prefix -}}
{{- $group := printf "%s%s" $prefix $settings.processor.group -}}
{{- $create := $settings.topics.create | ternary ", Create" "" -}}
{{- $outputs := list "webhooks.dedup-log" "webhooks.duplicates" "webhooks.rejected" "webhooks.dead-letter" -}}
{{- $outputs = concat $outputs (include "sluice.eventTopics" .root | fromYamlArray) -}}
{{- if eq .component "ingest" -}}
- resource: {type: topic, name: {{ $prefix }}webhooks.raw, patternType: literal}
  operations: [Write, DescribeConfigs{{ $create }}]
{{- else if eq .component "processor" -}}
- resource: {type: group, name: {{ $group }}, patternType: literal}
  operations: [Read]
{{- /* All members and workers: GROUP.MEMBER.WORKER. */}}
- resource: {type: transactionalId, name: {{ $group }}., patternType: prefix}
  operations: [Write]
- resource: {type: topic, name: {{ $prefix }}webhooks.raw, patternType: literal}
  operations: [Read, DescribeConfigs{{ $create }}]
{{- range $outputs }}
{{- /* Written and read: the log to restore, the fates to audit. */}}
- resource: {type: topic, name: {{ $prefix }}{{ . }}, patternType: literal}
  operations: [Read, Write, DescribeConfigs{{ $create }}]
{{- end }}
{{- else -}}
- resource: {type: group, name: {{ $group }}, patternType: literal}
  operations: [Describe]
{{- /* A redrive writes to raw, and keeps its progress in a group of its own. */}}
- resource: {type: group, name: {{ $group }}.redrive., patternType: prefix}
  operations: [Read]
- resource: {type: topic, name: {{ $prefix }}webhooks.raw, patternType: literal}
  operations: [Read, Write, DescribeConfigs]
{{- range $outputs }}
- resource: {type: topic, name: {{ $prefix }}{{ . }}, patternType: literal}
  operations: [Read, DescribeConfigs]
{{- end }}
{{- if include "sluice.subscriptions" .root }}
- resource: {type: topic, name: {{ $prefix }}webhooks.subscriptions, patternType: literal}
  operations: [Read, Write, DescribeConfigs]
{{- end }}
{{- end -}}
{{- end }}
