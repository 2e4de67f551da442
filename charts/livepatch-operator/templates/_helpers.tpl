{{/* Labels of every object. */}}
{{- define "livepatch-operator.labels" -}}
app.kubernetes.io/part-of: livepatch-operator
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* What tells the pods of a component: (list $ "operator"). Never changes, it is part of immutable selectors. */}}
{{- define "livepatch-operator.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: livepatch-{{ index . 1 }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
{{- end }}

{{/* user name of a component's service account: (list $ "operator"). */}}
{{- define "livepatch-operator.user" -}}
{{- $root := index . 0 -}}
system:serviceaccount:{{ $root.Release.Namespace }}:livepatch-{{ index . 1 }}
{{- end }}

{{/* Volumes that operator and agent share: (list $ <token lifetime in seconds>). */}}
{{- define "livepatch-operator.volumes" -}}
{{- $root := index . 0 -}}
# Instead of the automatic mount: its token would live an hour, and API servers extend it to a year.
- name: token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: {{ index . 1 | int }}
      - configMap:
          name: kube-root-ca.crt
          items: [{key: ca.crt, path: ca.crt}]
      - downwardAPI:
          items: [{path: namespace, fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}}]
- name: registry
  projected:
    defaultMode: 0440
    sources:
      - configMap:
          name: livepatch-registry
          items: [{key: mirrors.yaml, path: mirrors.yaml}]
      {{- with $root.Values.registry.dockerConfigSecret }}
      - secret:
          name: {{ . }}
          items: [{key: .dockerconfigjson, path: config.json}]
      {{- end }}
      {{- with $root.Values.registry.caBundle }}
      {{- if .configMap }}
      - configMap:
          name: {{ .configMap }}
          items: [{key: {{ .key | quote }}, path: ca.crt}]
      {{- end }}
      {{- end }}
{{- end }}

{{/* Mounts of these volumes. */}}
{{- define "livepatch-operator.mounts" -}}
- {name: token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
- {name: registry, mountPath: /etc/livepatch-registry, readOnly: true}
{{- end }}

{{/* Arguments that operator and agent share. */}}
{{- define "livepatch-operator.registryArguments" -}}
- --registry-config=/etc/livepatch-registry
{{- range .Values.allowedRepositories }}
- {{ printf "--allowed-repository=%s" . | quote }}
{{- end }}
{{- end }}
