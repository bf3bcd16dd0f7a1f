# Source this, and podman and buildah work where rlimits cannot be raised and cgroups are hybrid (crun
# refuses those, runc does not). They keep images, containers and networks apart from the machine's own,
# under CONTAINERS.
#
#   . tests/deploy/containers.sh; podman images
#
# Debian: podman buildah runc conmon catatonit netavark aardvark-dns iptables.
CONTAINERS=${CONTAINERS:-${TMPDIR:-/tmp}/foregate-containers-$(id -u)}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$CONTAINERS/networks"
# By rename, because others may be reading it at this moment.
fresh=$(mktemp "$CONTAINERS/.fresh.XXXXXX")
printf '[storage]\ndriver = "overlay"\nrunroot = "%s/run"\ngraphroot = "%s/store"\n' "$CONTAINERS" "$CONTAINERS" >"$fresh"
mv "$fresh" "$CONTAINERS/storage.conf"
fresh=$(mktemp "$CONTAINERS/.fresh.XXXXXX")
sed "s|@CONTAINERS@|$CONTAINERS|" "$here/containers.conf" >"$fresh"
mv "$fresh" "$CONTAINERS/containers.conf"
export CONTAINERS_CONF=$CONTAINERS/containers.conf CONTAINERS_STORAGE_CONF=$CONTAINERS/storage.conf
# Without user namespaces and mounts of its own: RUN in a build needs no more.
export BUILDAH_ISOLATION=chroot
