# Shared by the image scripts, which source it: writes an OCI archive from folders, one layer each.
# It needs no daemon, and what buildah keeps while it works lies in a folder that is removed again.

# The values of the image's labels; every script of ours packs the same release.
root=$(cd "$(dirname "$0")/.." && pwd)
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
license=$(sed -n '/^\[workspace.package\]/,/^\[/s/^license = "\(.*\)"/\1/p' "$root/Cargo.toml")
images=$root/target/images
mkdir -p "$images"

# One date for all files and images, so that the same input gives the same digest.
: "${SOURCE_DATE_EPOCH:=0}"
export SOURCE_DATE_EPOCH

# unchanged NAME INPUT.. : whether the archive was made from just these files (and what $inputs says besides).
unchanged() {
	name=$1
	shift
	key=$({ cat "$@" "$0" "$root/e2e/oci-archive.sh" && echo "$version ${inputs:-}"; } | sha256sum)
	[ -f "$images/$name.tar" ] && [ "$key" = "$(cat "$images/$name.key" 2>/dev/null)" ] || return 1
	size "$name" "unchanged"
}

# size NAME WORD : tells the archive's size.
size() {
	printf 'images: %-9s %3d MB  %s (target/images/%s.tar)\n' "$1" "$(($(stat -c %s "$images/$1.tar") / 1000000))" "$2" "$1"
}

# storage ARG.. : buildah with its storage where we remove it.
storage() {
	buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run" "$@"
}

# pack NAME TITLE CONFIG LAYER.. : CONFIG holds options of `buildah config`, split at spaces; a LAYER is a folder or tar.
pack() {
	name=$1 title=$2 config=$3
	shift 3
	below=scratch
	container=
	for layer in "$@"; do
		if [ -n "$container" ]; then
			below=$(storage commit --quiet --rm --timestamp "$SOURCE_DATE_EPOCH" "$container")
		fi
		container=$(storage from --pull-never "$below")
		storage add --quiet "$container" "$layer" / >/dev/null
	done
	# shellcheck disable=SC2086
	storage config $config --label "org.opencontainers.image.title=$title" \
		--label "org.opencontainers.image.licenses=$license" --label "org.opencontainers.image.version=$version" "$container"
	# Kubernetes reads a name without a host as one of docker.io; so the archive says that name in full.
	storage commit --quiet --rm --timestamp "$SOURCE_DATE_EPOCH" "$container" \
		"oci-archive:$work/image.tar:docker.io/portable-lb/$name:$version" >/dev/null
	mv "$work/image.tar" "$images/$name.tar"
	echo "$key" >"$images/$name.key"
	size "$name" "written"
}

# workspace NAME : makes $work, a folder that is gone when the script ends.
workspace() {
	work=$images/work-$1
	rm -rf "$work"
	mkdir -p "$work"
	trap 'rm -rf "$work"' EXIT
	trap 'exit 130' INT TERM
}
