# Sourced by hack/cluster: looks for what a stopped cluster could have left on the machine. It asks the machine, not
# the state that the cluster kept of itself.
# shellcheck shell=bash

verify_clean() {
  local left
  # The namespaces go a moment after their last process.
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    left=$(leftovers)
    [ -n "$left" ] || {
      say "nothing of the cluster is left on this machine"
      return 0
    }
    sleep 0.5
  done
  say "left by the cluster:"
  say "$left"
  return 1
}

leftovers() {
  local p exe
  for p in /proc/[0-9]*; do
    exe=$(readlink "$p/exe" 2>/dev/null) || continue
    case $exe in
      "$CACHE"/store/kube-*/kube* | "$CACHE"/store/containerd-*)
        # kubectl of a person at work is no part of the cluster.
        tr '\0' ' ' <"$p/cmdline" 2>/dev/null | grep -q '^\S*kubectl ' || echo "process ${p#/proc/} $exe"
        ;;
    esac
    grep -qs "/$CGROUP" "$p/cgroup" && echo "process ${p#/proc/} $exe in the cluster's control group"
    tr '\0' '\n' <"$p/environ" 2>/dev/null | grep -qx "PINNACE_CLUSTER=$STATE" && echo "process ${p#/proc/} $exe of the node"
  done
  awk -v s="$STATE" 'index($2, s) == 1 || index($1, s) == 1 {print "mount " $2}' /proc/self/mounts
  ip -brief link show | awk -v l="$LINK" 'index($1, l "@") == 1 || $1 == l || /^(cni|veth.*cni)/ {print "link " $1}'
  ip route show | grep -E "^(${POD_RANGE%%/*}|${SERVICE_RANGE%%/*})" | sed 's/^/route /'
  ip netns list 2>/dev/null | awk '/^cni-/ {print "namespace " $1}'
  nft list tables 2>/dev/null | grep -E 'kube|CNI' | sed 's/^/rules /'
  iptables-save 2>/dev/null | grep -E 'KUBE|CNI' | sed 's/^/rules /'
  while read -r h; do [ ! -d "$h/$CGROUP" ] || echo "control group $h/$CGROUP"; done < <(every_hierarchy)
  [ ! -e "$STATE" ] || echo "state $STATE"
  return 0
}
