{{/*
What manifests/ says, of which files/ has copies (generate/run),
with the values in the place of what kustomize's overlays would change.
*/}}
{{- define "signing.manifest" -}}
{{- $values := .context.Values -}}
{{- .context.Files.Get .file
  | replace "signing-system" .context.Release.Namespace
  | replace "'signing.odj.cloud/ring'" (squote $values.enrolmentLabel)
  | replace "signing.odj.cloud/ring: signing-gate" (printf "%s: signing-gate" $values.enrolmentLabel)
  | replace "signing-probe" $values.probe.namespace
  | replace "'kyverno'" (squote $values.kyverno.namespace)
  | replace "namespace: kyverno\n" (printf "namespace: %s\n" $values.kyverno.namespace)
  | replace "[kyverno]" (printf "[%s]" $values.kyverno.configMap) }}
{{- end }}

{{- define "signing.labels" -}}
app.kubernetes.io/name: signingkeyring-operator
{{- end }}

{{- define "signing.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end }}
{{- end }}
{{- end }}

{{/* The port with the metrics, by its name. */}}
{{- define "signing.metrics-port" -}}
{{ ternary "metrics" "http" .Values.metrics.secure.enabled }}
{{- end }}

{{/*
How Prometheus asks for metrics. By a token of a Secret's, or of its own, which a monitor of
Pods cannot say.
*/}}
{{- define "signing.metrics-endpoint" -}}
port: {{ include "signing.metrics-port" .context }}
path: /metrics
interval: {{ .context.Values.metrics.interval }}
{{- with .context.Values.metrics.secure }}
{{- if .enabled }}
scheme: https
{{- if .tokenSecret }}
authorization: {credentials: {name: {{ .tokenSecret }}, key: token}}
{{- else if $.own }}
bearerTokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token
{{- else }}
{{- fail "a PodMonitor cannot have Prometheus use its own token: name a Secret with one in metrics.secure.tokenSecret, or enable metrics.serviceMonitor in its place" }}
{{- end }}
tlsConfig:
{{- if .certificateSecret }}
  ca: {secret: {name: {{ .certificateSecret }}, key: ca.crt}}
  serverName: signingkeyring-operator.{{ $.context.Release.Namespace }}.svc
{{- else }}
  insecureSkipVerify: true
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Rings of the newer kind are asked about in a namespace of its own. */}}
{{- define "signing.probes" -}}
{{- if or .Values.probe.enabled (ne .Values.policyKind "ClusterPolicy") }}true{{ end }}
{{- end }}

{{/* A list of exclusions: of a kind that the cluster serves only once its CRD is there. */}}
{{- define "signing.serves-lists" -}}
{{- if .Capabilities.APIVersions.Has "signing.odj.cloud/v1alpha1/ImageExclusionList" }}true{{ end }}
{{- end }}
