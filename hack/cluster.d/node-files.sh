# Sourced by hack/cluster: the files that the node starts from.
# shellcheck shell=bash

# node_files NODE: of the first one, which has the certificate authority, before the others.
node_files() {
  node_vars "$1"
  mkdir -p "$NODE_FILES"/{pki,cni} "$NODE_STATE/log"
  if [ "$NODE" = node1 ]; then
    certificates
    kubeconfig admin admin
    cp "$NODE_FILES/admin.conf" "$STATE/admin.conf"
    kubeconfig controller-manager controller-manager
    kubeconfig scheduler scheduler
  else
    cp "$STATE/lib/node/pki/ca.crt" "$STATE/lib/node/pki/ca.key" "$NODE_FILES/pki/"
  fi
  (
    cd "$NODE_FILES/pki" || exit
    certificate proxy /CN=system:kube-proxy DNS:proxy
    certificate node "/O=system:nodes/CN=system:node:$NODE" "DNS:$NODE,IP:$NODE_IP"
  )
  [ "$NODE" = node1 ] || rm "$NODE_FILES/pki/ca.key"
  kubeconfig proxy proxy
  kubeconfig node node
  containerd_config >"$NODE_FILES/containerd.toml"
  pod_network >"$NODE_FILES/cni/10-pods.conflist"
  kubelet_config >"$NODE_FILES/kubelet.yaml"
  echo "nameserver $DNS_IP" >"$NODE_FILES/resolv.conf"
}

certificates() (
  cd "$NODE_FILES/pki" || exit
  openssl ecparam -name prime256v1 -genkey -noout -out ca.key
  openssl req -x509 -new -key ca.key -subj /CN=kubernetes -days 30 -out ca.crt
  openssl ecparam -name prime256v1 -genkey -noout -out sa.key
  openssl ec -in sa.key -pubout -out sa.pub 2>/dev/null
  local service=kubernetes.default
  certificate apiserver /CN=kube-apiserver \
    "DNS:kubernetes,DNS:$service,DNS:$service.svc,DNS:$service.svc.cluster.local,DNS:localhost,IP:$KUBERNETES_IP,IP:$API_IP,IP:127.0.0.1"
  certificate admin /O=system:masters/CN=admin DNS:admin
  certificate controller-manager /CN=system:kube-controller-manager DNS:controller-manager
  certificate scheduler /CN=system:kube-scheduler DNS:scheduler
)

certificate() { # NAME SUBJECT ALTERNATIVE_NAMES
  openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
  openssl req -new -key "$1.key" -subj "$2" |
    openssl x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out "$1.crt" \
      -extfile <(printf 'extendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=%s\n' "$3") 2>/dev/null
}

kubeconfig() { # FILE CERTIFICATE
  local pki=$NODE_FILES/pki
  cat >"$NODE_FILES/$1.conf" <<EOF
apiVersion: v1
kind: Config
clusters:
- name: pinnace
  cluster: {server: "https://$API_IP:6443", certificate-authority-data: $(base64 -w0 "$pki/ca.crt")}
users:
- name: $2
  user:
    client-certificate-data: $(base64 -w0 "$pki/$2.crt")
    client-key-data: $(base64 -w0 "$pki/$2.key")
contexts:
- name: pinnace
  context: {cluster: pinnace, user: $2}
current-context: pinnace
EOF
}

containerd_config() {
  cat <<EOF
version = 3
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "$PAUSE_IMAGE"
# A machine may be a container itself that must not lower the score of its processes.
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
    SystemdCgroup = false
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["/usr/lib/cni"]
  conf_dir = "/var/lib/node/cni"
EOF
}

# Point-to-point links: every packet between pods is routed, so a reply passes the translation of its Service without
# any bridge module of the kernel.
pod_network() {
  cat <<EOF
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "ptp", "ipMasq": false, "mtu": 1500,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$NODE_POD_RANGE"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}
]}
EOF
}

# syncFrequency stays at its default: a shorter one would hide how late a changed Secret reaches a pod.
kubelet_config() {
  cat <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupRoot: /$NODE_CGROUP
enforceNodeAllocatable: []
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: /var/lib/node/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: /var/lib/node/pki/node.crt
tlsPrivateKeyFile: /var/lib/node/pki/node.key
clusterDNS: [$DNS_IP]
clusterDomain: cluster.local
resolvConf: /var/lib/node/resolv.conf
maxPods: 400
# There is no registry to fetch a collected image from again.
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
EOF
}
