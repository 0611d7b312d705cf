# Sourced by hack/demo: the things it asks of the running mesh, each by what a user of any mesh would call.
# shellcheck shell=bash

# call NAMESPACE DEPLOYMENT URL [OPTION...]: the application's own container calls; its sidecar makes it mutual TLS.
call() {
  local namespace=$1 from=$2
  shift 2
  kubectl --namespace "$namespace" exec "deployment/$from" -c "${from%-v[0-9]}" -- /bookshop get "$@"
}

# admin NAMESPACE DEPLOYMENT PATH: a page of the sidecar, which serves it inside the pod only.
admin() {
  local port='' out forward page status=0
  out=$(mktemp)
  kubectl --namespace "$1" port-forward "deployment/$2" :15000 >"$out" 2>&1 &
  forward=$!
  for _ in {1..50}; do
    port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' "$out")
    [ -z "$port" ] || break
    sleep 0.1
  done
  page=$(curl --silent --show-error --fail --max-time 5 "http://127.0.0.1:$port$3") || status=$?
  kill $forward
  wait $forward 2>/dev/null || true
  rm -f "$out"
  printf '%s\n' "$page"
  return $status
}

# identities NAMESPACE DEPLOYMENT: who the server's sidecar says has called, and as whom it answered.
identities() {
  call "$1" "$2" http://witness:9080/ --body | tr -d '\n ' |
    sed -n 's/.*"x-forwarded-client-cert","By=\([^;]*\);[^]]*;URI=\([^";]*\)".*/\2 \1/p'
}

# serial NAMESPACE DEPLOYMENT: that of the certificate which the sidecar uses now.
serial() {
  admin "$1" "$2" /certs | tr -d '\n' | tr '}' '\n' | sed -n '/"leaf"/s/.*"serial": *"\([0-9a-f]*\)".*/\1/p' | head -n 1
}

# refusals NAMESPACE DEPLOYMENT REASON: how many connections the sidecar refused for it.
refusals() {
  admin "$1" "$2" /stats/prometheus |
    awk -v r="reason=\"$3\"" '/^pinnace_proxy_connections_refused_total/ && index($1, r) {n += $2} END {print n + 0}'
}

# until_true SECONDS COMMAND...
until_true() {
  local until=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $until ] || return 1
    sleep 0.3
  done
}
