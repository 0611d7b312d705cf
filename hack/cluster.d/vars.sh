# Sourced by hack/cluster and hack/cluster.d/node: the names and addresses that both ends must agree on.
# The first node, node1, runs the control plane too. Each further one is linked to it, so that it is their router.
# shellcheck shell=bash disable=SC2034  # used by those who source it

# One cluster per machine, whichever clone started it: its state is at one place.
STATE=${PINNACE_CLUSTER:-/var/lib/pinnace-cluster}
CGROUP=pinnace-cluster
LINK=pinnace0
HOST_IP=172.30.0.1
API_IP=172.30.0.2
NODE_RANGE=172.30.0.0/24
POD_RANGE=10.244.0.0/16
MOST_NODES=8
SERVICE_RANGE=10.96.0.0/16
KUBERNETES_IP=10.96.0.1
DNS_IP=10.96.0.10

# node_vars NODE: what is different on each node: its state, control group, address with that of the other end of its link,
# and the range of its pods.
node_vars() {
  local n=${1#node}
  NODE=$1
  NODE_IP=172.30.0.$((4 * n - 2))
  NODE_GATEWAY=172.30.0.$((4 * n - 3))
  NODE_POD_RANGE=10.244.$((2 * n - 2)).0/23
  if [ "$n" = 1 ]; then
    NODE_STATE=$STATE
    NODE_CGROUP=$CGROUP
  else
    NODE_STATE=$STATE/nodes/$NODE
    # Its own: two kubelets of one group would delete each other's pods.
    NODE_CGROUP=$CGROUP/$NODE
  fi
  # What the node sees at /var/lib/node.
  NODE_FILES=$NODE_STATE/lib/node
}
