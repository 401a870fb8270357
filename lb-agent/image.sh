#!/bin/sh
# Writes target/images/agent.tar, the agent's image: Debian's iptables (legacy and nft), kmod and ipvsadm, and on top
# of them the given static binary. The Debian part is kept, so that a new binary alone needs no network.
set -eu

binary=$1
# shellcheck source=e2e/oci-archive.sh
. "$(dirname "$0")/../e2e/oci-archive.sh"

suite=bookworm
packages=iptables,ipvsadm,kmod
inputs="$suite $packages"

# The machine's own apt sources if it runs this release, for their mirrors; Debian's else.
sources() {
	if grep -qs "^VERSION_CODENAME=$suite$" /etc/os-release; then
		ls /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list 2>/dev/null || true
	fi
}

# Debian's files as a tar; unpacked but not configured, so there are both iptables and no default among them.
debian() {
	debian_key="$inputs $(sha256sum <"$0")"
	if [ ! -f "$images/debian.tar" ] || [ "$debian_key" != "$(cat "$images/debian.key" 2>/dev/null)" ]; then
		# shellcheck disable=SC2046
		mmdebstrap --quiet --variant=extract --include="$packages" \
			--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
			--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
			--dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/lintian/*' \
			"$suite" "$work/debian" $(sources)
		(cd "$work/debian" && mkdir -p run && rm -rf dev/* etc/apt etc/dpkg etc/fstab etc/hostname etc/resolv.conf var/cache/* var/lib/apt var/log/*)
		tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --numeric-owner -C "$work/debian" -cf "$work/debian.tar" .
		mv "$work/debian.tar" "$images/debian.tar"
		echo "$debian_key" >"$images/debian.key"
	fi
}

unchanged agent "$binary" && exit
workspace agent
debian
install -D -m 755 "$binary" "$work/top/usr/bin/lb-agent"
pack agent "Portable Load Balancer agent" \
	'--entrypoint ["/usr/bin/lb-agent"] --env PATH=/usr/sbin:/usr/bin:/sbin:/bin' "$images/debian.tar" "$work/top"
