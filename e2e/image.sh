#!/bin/sh
# Writes target/images/lab-pod.tar, the image of the lab's own pods: the given static binary is sandbox, server and client.
set -eu

binary=$1
# shellcheck source=e2e/oci-archive.sh
. "$(dirname "$0")/../e2e/oci-archive.sh"

unchanged lab-pod "$binary" && exit
workspace lab-pod
install -D -m 755 "$binary" "$work/top/usr/bin/lab-pod"
pack lab-pod "Pods of the Portable Load Balancer's lab" '--entrypoint ["/usr/bin/lab-pod"] --user 65532:65532' "$work/top"
