# Sourced by hack/cluster and hack/cluster.d/node: the names and addresses that both ends must agree on.
# shellcheck shell=bash disable=SC2034  # used by those who source it

# One cluster per machine, whichever clone started it: its state is at one place.
STATE=${PINNACE_CLUSTER:-/var/lib/pinnace-cluster}
# What the node sees at /var/lib/node.
NODE_FILES=$STATE/lib/node
CGROUP=pinnace-cluster
LINK=pinnace0
HOST_IP=172.30.0.1
NODE_IP=172.30.0.2
POD_RANGE=10.244.0.0/16
NODE_POD_RANGE=10.244.0.0/23
SERVICE_RANGE=10.96.0.0/16
KUBERNETES_IP=10.96.0.1
DNS_IP=10.96.0.10
