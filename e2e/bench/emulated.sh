#!/bin/sh
# emulated.sh FOLDER PACKAGE.. : writes FOLDER/vmlinuz and FOLDER/initrd, which boot Debian's own kernel into these packages.
# Nothing is installed on this machine: the kernel of a package is only unpacked.
set -eu

folder=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
include=$(IFS=,; echo "$*")
# As tar, since a folder would be owned by whoever unpacks it.
mmdebstrap --quiet --variant=extract --format=tar --include="$include" --dpkgopt='path-exclude=/usr/share/*' \
	"$suite" "$work/debian.tar"
mkdir "$work/root"
tar -C "$work/root" --exclude='./dev/*' -xf "$work/debian.tar"
kernel=$(echo "$work"/root/boot/vmlinuz-*)
depmod -b "$work/root" "${kernel##*/vmlinuz-}"

mkdir -p "$folder"
mv "$kernel" "$folder/vmlinuz"
rm -rf "$work/root/boot"
(cd "$work/root" && find . -print0 | cpio --null --create --format=newc --quiet | gzip -1) >"$work/initrd"
mv "$work/initrd" "$folder/initrd"
