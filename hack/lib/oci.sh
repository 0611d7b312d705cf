# Sourced: builds container images without a registry, by a Docker engine where one answers, by buildah otherwise, and gives
# them to the cluster.
# shellcheck shell=bash

docker_answers() { command -v docker >/dev/null && timeout 5 docker info >/dev/null 2>&1; }

# oci_build NAME FOLDER TAR [ARCH]: builds FOLDER/Dockerfile as image NAME into an archive that `ctr images import` reads,
# for this machine's architecture or the one named. Nothing is run in the image, so that any can be built.
oci_build() {
  local name=$1 folder=$2 tar=$3 part=$3.part arch=${4:-}
  rm -f "$part"
  if docker_answers; then
    docker build --quiet ${arch:+--platform "linux/$arch"} --tag "$name" "$folder"
    docker save --output "$part" "$name"
  else
    # vfs and chroot ask nothing of the kernel; the storage is per build and thrown away, so that builds neither
    # meet nor pile up.
    local store
    store=$(mktemp -d "$CACHE/tmp/buildah.XXXXXX")
    local buildah=(buildah --storage-driver vfs --root "$store/root" --runroot "$store/run")
    "${buildah[@]}" bud --quiet ${arch:+--arch "$arch"} --isolation chroot --format docker --tag "$name" "$folder"
    "${buildah[@]}" push --quiet "$name" "docker-archive:$part:$name"
    rm -rf "$store"
  fi
  mv "$part" "$tar"
}

# image_load NAME ARCHIVE: gives an image to the cluster if one runs here, or to that of kind that KIND_CLUSTER names. The
# cluster's state remembers which archive it was given last, and goes with the cluster.
image_load() {
  local name=$1 archive=$2 given=$STATE/images/$1
  if [ -n "${KIND_CLUSTER:-}" ]; then
    step "$name into $KIND_CLUSTER" "load-$name" kind load image-archive "$archive" --name "$KIND_CLUSTER"
    return
  fi
  [ -f "$STATE/admin.conf" ] && [ "$(cat "$given" 2>/dev/null)" != "$archive" ] || return 0
  step "$name into the cluster" "load-$name" "$ROOT/hack/cluster" load "$archive"
  mkdir -p "$STATE/images"
  echo "$archive" >"$given"
}

# is_static BINARY: an image FROM scratch has no loader and no libraries.
is_static() { ! LC_ALL=C readelf -lW "$1" | grep -q INTERP; }
