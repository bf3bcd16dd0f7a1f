#!/usr/bin/env bash
# A whole Kubernetes on this machine, of one node: etcd, API server, controllers, scheduler,
# containerd and kubelet. There is no kube-proxy and no DNS: pods have addresses, Services have none.
#   node.sh start          afterwards: export KUBECONFIG=$STATE/kubeconfig
#   node.sh build NAME DIRECTORY   an image, by the Containerfile there, for the node
#   node.sh take IMAGE NAME        one that buildah or podman have, under another name
#   node.sh stop           takes back everything, whatever state it is in
# From the environment: STATE, a directory with a short name; BIN, where Kubernetes' programs are.
set -euo pipefail
API=16443 ETCD=12379
. "$(dirname "${BASH_SOURCE[0]}")/../containers.sh"
cd "${STATE:?}"

certificate() { # name, subject, alternative names
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "pki/$1.key" -out "pki/$1.csr" -subj "$2"
  openssl x509 -req -in "pki/$1.csr" -CA pki/ca.crt -CAkey pki/ca.key -CAcreateserial -days 2 -out "pki/$1.crt" -extfile - <<END
keyUsage=digitalSignature
extendedKeyUsage=serverAuth,clientAuth
${3:+subjectAltName=$3}
END
}

identity() { # name, subject: a certificate, and the kubeconfig that uses it
  certificate "$1" "$2" "${3:-}"
  local config=("$BIN/kubectl" "--kubeconfig=$STATE/$1.kubeconfig" config)
  "${config[@]}" set-cluster node --server="https://127.0.0.1:$API" --certificate-authority=pki/ca.crt --embed-certs
  "${config[@]}" set-credentials "$1" --client-certificate="pki/$1.crt" --client-key="pki/$1.key" --embed-certs
  "${config[@]}" set-context node --cluster=node --user="$1"
  "${config[@]}" use-context node
}

identities() {
  mkdir pki
  openssl genrsa -out pki/accounts.key 2048
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout pki/ca.key -out pki/ca.crt -subj /CN=node
  certificate api /CN=kube-apiserver IP:127.0.0.1,IP:10.96.0.1,DNS:localhost
  identity admin /O=system:masters/CN=admin
  identity controllers /CN=system:kube-controller-manager
  identity scheduler /CN=system:kube-scheduler
  identity kubelet /O=system:nodes/CN=system:node:localhost IP:127.0.0.1,DNS:localhost
  ln -s admin.kubeconfig kubeconfig
}

run() { # name, command: in the background, to be found by stop
  local name=$1
  shift
  setsid "$@" >"$name.log" 2>&1 </dev/null &
  echo $! >"$name.pid"
}

await() { # what, command
  local what=$1
  shift
  for _ in $(seq 240); do
    "$@" >/dev/null 2>&1 && return
    sleep 0.5
  done
  echo "$what: not within two minutes" >&2
  tail -n 20 ./*.log >&2
  exit 1
}

control_plane() {
  run etcd etcd --data-dir etcd --unsafe-no-fsync --listen-client-urls "http://127.0.0.1:$ETCD" --advertise-client-urls "http://127.0.0.1:$ETCD" \
    --listen-peer-urls "http://127.0.0.1:$((ETCD + 1))" --initial-advertise-peer-urls "http://127.0.0.1:$((ETCD + 1))" \
    --initial-cluster "default=http://127.0.0.1:$((ETCD + 1))"
  run api "$BIN/kube-apiserver" --bind-address=127.0.0.1 --advertise-address=127.0.0.1 --secure-port=$API --etcd-servers="http://127.0.0.1:$ETCD" \
    --service-cluster-ip-range=10.96.0.0/24 --authorization-mode=Node,RBAC --endpoint-reconciler-type=none \
    --tls-cert-file=pki/api.crt --tls-private-key-file=pki/api.key --client-ca-file=pki/ca.crt \
    --kubelet-client-certificate=pki/admin.crt --kubelet-client-key=pki/admin.key --kubelet-certificate-authority=pki/ca.crt --kubelet-preferred-address-types=Hostname \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file=pki/accounts.key --service-account-signing-key-file=pki/accounts.key
  await "API server" "$BIN/kubectl" get --raw=/readyz
  run controllers "$BIN/kube-controller-manager" --kubeconfig=controllers.kubeconfig --leader-elect=false --bind-address=127.0.0.1 --secure-port=$((API + 1)) \
    --use-service-account-credentials --service-account-private-key-file=pki/accounts.key --root-ca-file=pki/ca.crt
  run scheduler "$BIN/kube-scheduler" --kubeconfig=scheduler.kubeconfig --leader-elect=false --bind-address=127.0.0.1 --secure-port=$((API + 2))
}

node() {
  mkdir -p cni kubelet pause
  cat >containerd.toml <<END
version = 2
root = "$STATE/containerd"
state = "$STATE/containers"
[grpc]
  address = "$STATE/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$STATE/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
END
  cat >cni/bridge.conflist <<END
{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "foregate0", "isGateway": true, "ipMasq": false,
 "ipam": {"type": "host-local", "dataDir": "$STATE/addresses", "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
END
  run containerd containerd -c containerd.toml
  await containerd ctr -a containerd.sock version
  cp /usr/bin/catatonit pause/
  printf 'FROM scratch\nCOPY catatonit /\nENTRYPOINT ["/catatonit", "-P"]\n' >pause/Containerfile
  build localhost/pause:1 pause
  cat >kubelet.yaml <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: { anonymous: { enabled: false }, webhook: { enabled: false }, x509: { clientCAFile: $STATE/pki/ca.crt } }
authorization: { mode: AlwaysAllow }
address: 127.0.0.1
port: 16250
healthzPort: 16248
readOnlyPort: 0
podLogsDir: $STATE/logs
tlsCertFile: $STATE/pki/kubelet.crt
tlsPrivateKeyFile: $STATE/pki/kubelet.key
cgroupDriver: cgroupfs
failSwapOn: false
failCgroupV1: false
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
makeIPTablesUtilChains: false
containerRuntimeEndpoint: unix://$STATE/containerd.sock
resolvConf: ""
evictionHard: { memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1% }
featureGates: { KubeletInUserNamespace: true }
END
  # The kubelet changes these; stop puts them back.
  sysctl vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops >sysctl.before
  run kubelet "$BIN/kubelet" --config=kubelet.yaml --kubeconfig=kubelet.kubeconfig --hostname-override=localhost --root-dir="$STATE/kubelet"
  await node "$BIN/kubectl" wait --for=condition=Ready node/localhost --timeout=1s
}

build() { # name, directory
  buildah bud -q -t "$1" -f "$2/Containerfile" "$2"
  take "$1" "$1"
}

take() { # image of buildah or podman, name on the node
  buildah push -q "$1" "docker-archive:$STATE/image.tar:$2"
  ctr -a "$STATE/containerd.sock" -n k8s.io images import "$STATE/image.tar"
  rm "$STATE/image.tar"
}

stop() {
  if [ -f kubelet.pid ]; then
    timeout 40 "$BIN/kubectl" delete deployments,pods --all -A --grace-period=1
    end kubelet
    sysctl -q -p sysctl.before
  fi
  if [ -f containerd.pid ]; then
    for task in $(ctr -a containerd.sock -n k8s.io tasks ls -q); do ctr -a containerd.sock -n k8s.io tasks kill -s 9 "$task"; done
    for container in $(ctr -a containerd.sock -n k8s.io containers ls -q); do ctr -a containerd.sock -n k8s.io tasks rm -f "$container"; done
  fi
  for name in scheduler controllers api etcd containerd; do end "$name"; done
  awk -v below="$STATE/" 'index($2, below) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r umount
  ip link delete foregate0
  find /sys/fs/cgroup -depth -type d -path '*/kubepods*' -exec rmdir {} +
  find /var/log/containers -lname "$STATE/*" -delete
  cd / && rm -rf "$STATE"
}

end() { # name
  [ -f "$1.pid" ] || return 0
  local pid
  pid=$(cat "$1.pid")
  rm "$1.pid"
  kill "$pid" || return 0
  for _ in $(seq 100); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.1
  done
  kill -9 "$pid"
}

export KUBECONFIG=$STATE/kubeconfig
case ${1:-} in
start) { identities; control_plane; node; } >start.log 2>&1 || { tail -n 40 start.log >&2; exit 1; } ;;
build | take) "$@" >"$1.log" 2>&1 || { tail -n 20 "$1.log" >&2; exit 1; } ;;
stop) set +e; stop >/dev/null 2>&1; exit 0 ;;
*) echo "usage: $0 start | build NAME DIRECTORY | take IMAGE NAME | stop" >&2; exit 2 ;;
esac
