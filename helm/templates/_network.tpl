{{/*
The port of a URL, or nothing of no URL.
*/}}
{{- define "sluice.urlPort" -}}
{{- with . -}}
{{- $url := urlParse . -}}
{{- regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default (ternary "443" "80" (eq $url.scheme "https")) -}}
{{- end -}}
{{- end }}

{{/*
A rule of egress, or nothing where no port is known. (peers: to and ports; ports or port: those of the settings;
protocols)
*/}}
{{- define "sluice.egress" -}}
{{- $ports := .peers.ports | default .ports -}}
{{- if and (not $ports) .port }}{{ $ports = list (int .port) }}{{ end -}}
{{- $protocols := .protocols | default (list "TCP") -}}
{{- if $ports -}}
- ports:
    {{- range $port := $ports }}
    {{- range $protocols }}
    - {port: {{ int $port }}, protocol: {{ . }}}
    {{- end }}
    {{- end }}
  {{- with .peers.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
{{- end }}
