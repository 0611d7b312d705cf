# Sourced: the images that the cluster itself needs, made on this machine and cached as archives.
# shellcheck shell=bash
# shellcheck source=hack/lib/oci.sh
. "$ROOT/hack/lib/oci.sh"

PAUSE_IMAGE=localhost/pinnace/pause:dev
COREDNS_IMAGE=localhost/pinnace/coredns:dev
BUSYBOX_IMAGE=localhost/pinnace/busybox:dev

# base_images: builds those that are missing; prints nothing where nothing is to do.
base_images() {
  base_image pause "$PAUSE_IMAGE" "$ROOT/hack/cluster.d/images/pause/pause.c"
  base_image coredns "$COREDNS_IMAGE" "$(readlink -f "$CACHE/bin/coredns")"
  base_image busybox "$BUSYBOX_IMAGE" /bin/busybox
}

# base_image NAME IMAGE SOURCE: the archive is named after the hash of the Dockerfile and the source.
base_image() {
  local name=$1 image=$2 source=$3 tar
  tar=$(base_archive "$name" "$source")
  [ -f "$tar" ] && return
  locked image
  step "image $image" "image-$name" base_image_build "$name" "$image" "$source" "$tar"
}

base_archive() {
  printf '%s/images/%s-%s.tar' "$CACHE" "$1" "$(cat "$ROOT/hack/cluster.d/images/$1/Dockerfile" "$2" | sha256sum | cut -c1-16)"
}

base_image_build() {
  local name=$1 image=$2 source=$3 tar=$4 folder
  folder=$(mktemp -d "$CACHE/tmp/image.XXXXXX")
  cp "$ROOT/hack/cluster.d/images/$name/Dockerfile" "$folder/"
  if [ "$name" = pause ]; then
    gcc -static -Os -s -o "$folder/pause" "$source"
  else
    cp "$source" "$folder/$name"
  fi
  is_static "$folder/$name" || { echo "$source is not static"; return 1; }
  rm -f "$CACHE/images/$name"-*.tar
  oci_build "$image" "$folder" "$tar"
  rm -rf "$folder"
}

base_archives() {
  base_archive pause "$ROOT/hack/cluster.d/images/pause/pause.c"; echo
  base_archive coredns "$(readlink -f "$CACHE/bin/coredns")"; echo
  base_archive busybox /bin/busybox; echo
}
