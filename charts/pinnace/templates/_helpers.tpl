{{/* "-REVISION", or nothing for the default control plane. */}}
{{- define "pinnace.suffix" -}}
{{- with .Values.revision }}-{{ . }}{{ end -}}
{{- end -}}

{{- define "pinnace.operator" -}}pinnace-operator{{ include "pinnace.suffix" . }}{{- end -}}
{{- define "pinnace.webhook" -}}pinnace-webhook{{ include "pinnace.suffix" . }}{{- end -}}
{{- define "pinnace.injector" -}}pinnace-sidecar-injector{{ include "pinnace.suffix" . }}{{- end -}}
{{- define "pinnace.validator" -}}pinnace-validator{{ include "pinnace.suffix" . }}{{- end -}}
{{- define "pinnace.meshConfigMap" -}}istio{{ include "pinnace.suffix" . }}{{- end -}}
{{- define "pinnace.injectorConfigMap" -}}istio-sidecar-injector{{ include "pinnace.suffix" . }}{{- end -}}
{{- define "pinnace.webhookTLS" -}}pinnace-webhook-tls{{ include "pinnace.suffix" . }}{{- end -}}

{{/* The name by which labels select this control plane. */}}
{{- define "pinnace.revision" -}}{{ default "default" .Values.revision }}{{- end -}}

{{/* All names by which labels select it, as JSON. */}}
{{- define "pinnace.revisions" -}}
{{- prepend .Values.revisionTags (include "pinnace.revision" .) | uniq | toJson -}}
{{- end -}}

{{/* "true" for the default control plane: the one without a revision, or with the tag "default". */}}
{{- define "pinnace.isDefault" -}}
{{- if or (not .Values.revision) (has "default" .Values.revisionTags) }}true{{ end -}}
{{- end -}}

{{/* HUB/IMAGE:TAG, unless the image is a whole reference already. Give it (list $ "image"). */}}
{{- define "pinnace.image" -}}
{{- $root := index . 0 }}{{ $image := index . 1 -}}
{{- if contains "/" $image }}{{ $image }}{{ else }}{{ $root.Values.hub }}/{{ $image }}:{{ $root.Values.tag }}{{ end -}}
{{- end -}}

{{/* Labels of every object. Give it (list $ "component"). */}}
{{- define "pinnace.labels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/part-of: pinnace
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ $root.Chart.Name }}-{{ $root.Chart.Version }}
istio.io/rev: {{ include "pinnace.revision" $root }}
{{- end -}}

{{/* The labels by which a Deployment, its Service and its budget find their pods. */}}
{{- define "pinnace.selector" -}}
app: {{ . }}
{{- end -}}

{{/* What both Deployments' pods have in common: where they run and what they may not do. Give it (list $ values name). */}}
{{- define "pinnace.podSpec" -}}
{{- $root := index . 0 }}{{ $values := index . 1 }}{{ $name := index . 2 -}}
serviceAccountName: {{ $name }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
# Preferred, not required: a cluster of one node runs both replicas.
topologySpreadConstraints:
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "pinnace.selector" $name | nindent 6 }}
{{- end }}
{{- end -}}

{{/* What a container of the control plane may not do. */}}
{{- define "pinnace.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
privileged: false
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Labels and annotations of both Deployments' pods. */}}
{{- define "pinnace.podAnnotations" -}}
prometheus.io/scrape: "true"
prometheus.io/port: "15014"
prometheus.io/path: /metrics
{{- end -}}

{{/* Probes of both binaries. */}}
{{- define "pinnace.probes" -}}
livenessProbe:
  httpGet: {path: /healthz, port: http-metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: http-metrics}
  # Pods that wait for the control plane wait this much longer than they need to.
  periodSeconds: 2
  timeoutSeconds: 2
{{- end -}}

{{/* Who may read metrics. The kubelet's probes come to the same port from the pod's own node, which is always allowed. */}}
{{- define "pinnace.metricsIngress" -}}
- from: {{- toYaml .Values.networkPolicy.metricsFrom | nindent 2 }}
  ports:
  - {protocol: TCP, port: 15014}
{{- end -}}

{{/* What the control plane calls: the API server, whose address no selector names, and the cluster's DNS. */}}
{{- define "pinnace.egress" -}}
- ports:
  {{- range .Values.networkPolicy.apiServerPorts }}
  - {protocol: TCP, port: {{ . }}}
  {{- end }}
- ports:
  - {protocol: UDP, port: 53}
  - {protocol: TCP, port: 53}
{{- end -}}

{{/* Fails when an object exists that is not this release's. Give it (list $ object kind name advice). Helm refuses too,
     but its message speaks of missing annotations and not of what to do. */}}
{{- define "pinnace.refuseForeign" -}}
{{- $root := index . 0 }}{{ $object := index . 1 -}}
{{- if $object -}}
{{- $annotations := default dict $object.metadata.annotations -}}
{{- $release := get $annotations "meta.helm.sh/release-name" -}}
{{- $namespace := get $annotations "meta.helm.sh/release-namespace" -}}
{{- if or (ne $release $root.Release.Name) (ne $namespace $root.Release.Namespace) -}}
{{- $owner := "something that Helm did not install" -}}
{{- if $release }}{{ $owner = printf "the Helm release %s in namespace %s" $release $namespace }}{{ end -}}
{{- fail (printf "\n\n%s %s exists already and belongs to %s.\n%s\n" (index . 2) (index . 3) $owner (index . 4)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Resources with every quantity as text: in a ConfigMap no API server turns `cpu: 2` into a quantity. */}}
{{- define "pinnace.resources" -}}
{{- $resources := dict -}}
{{- range $kind, $quantities := . -}}
{{- $texts := dict -}}
{{- range $name, $quantity := $quantities }}{{ $_ := set $texts $name (toString $quantity) }}{{ end -}}
{{- $_ := set $resources $kind $texts -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}
