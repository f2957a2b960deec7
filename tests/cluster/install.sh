#!/usr/bin/env bash
# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later
#
# Installs what the test pool needs, on Debian, as root:
#   - SLURM and munge of the host's own release, by apt;
#   - HTCondor, which not every Debian release has: the packages of SUITE,
#     unpacked in PREFIX with interpreter and library path set to PREFIX, so
#     that they run beside the host's own libraries. PREFIX is baked into the
#     binaries: a cached copy has to be restored to the same place;
#   - a user without password for the daemons to run as.
#
# Packages come from where the host's own apt gets Debian. A second run returns
# at once. Exit 3: cannot be installed here; the last line of stderr says why.
# pool_setup.py runs this script, and sets the four variables.
set -euo pipefail
: "${SUITE:?}" "${PREFIX:?}" "${POOL_USER:?}" "${POOL_UID:?}"
SLURM_PACKAGES=(slurmctld slurmd slurm-client munge patchelf)

main() {
    check
    mkdir -p "$(dirname "$PREFIX")"
    exec 9>"$PREFIX.lock"
    flock 9
    install_slurm
    make_user
    [ -e "$PREFIX/.complete" ] || install_condor
}

cannot() { echo "$1" >&2; exit 3; }
say() { echo "test pool: $1"; }

check() {
    [ "$(id -u)" = 0 ] || cannot "not root: the test pool installs packages and maps users"
    command -v apt-get dpkg-deb >/dev/null || cannot "no apt: the test pool is made of Debian packages"
    [ "$(dpkg --print-architecture)" = amd64 ] || cannot "not amd64: not tried on another architecture"
    # Daemons and jobs run in a user namespace, where root is an ordinary user.
    unshare -U --map-user=$POOL_UID --map-group=$POOL_UID true 2>/dev/null ||
        cannot "user namespaces are not permitted here (a container without them?)"
    getent hosts "$(hostname -s)" >/dev/null || cannot "the host's own name $(hostname -s) does not resolve"
    local owner
    owner=$({ getent passwd "$POOL_UID" || true; } | cut -d: -f1)
    [ -z "$owner" ] || [ "$owner" = "$POOL_USER" ] ||
        cannot "user id $POOL_UID belongs to $owner: set BULKCUTOUT_POOL_USER and BULKCUTOUT_POOL_UID"
    owner=$(id -u "$POOL_USER" 2>/dev/null || true)
    [ -z "$owner" ] || [ "$owner" = "$POOL_UID" ] ||
        cannot "user $POOL_USER has the id $owner: set BULKCUTOUT_POOL_UID to it"
}

make_user() {
    id "$POOL_USER" >/dev/null 2>&1 ||
        useradd --uid "$POOL_UID" --no-create-home --home-dir /nonexistent --shell /bin/bash "$POOL_USER"
}

update_lists() {
    [ -z "${updated-}" ] || return 0
    apt-get update -qq || cannot "apt-get update failed: no network, or no mirror?"
    updated=yes
}

install_slurm() {
    local missing=() package
    for package in "${SLURM_PACKAGES[@]}"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed$' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing ${missing[*]}"
    update_lists
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
        cannot "apt-get install ${missing[*]} failed"
}

install_condor() {
    say "installing HTCondor of Debian $SUITE in $PREFIX"
    work=$(mktemp -d /var/tmp/bulkcutout-condor.XXXXXX)
    trap 'rm -rf "$work"' EXIT
    download
    local partial=$PREFIX.partial
    rm -rf "$partial" "$PREFIX"
    unpack "$partial"
    relocate "$partial"
    mv "$partial" "$PREFIX"
    CONDOR_CONFIG=/dev/null "$PREFIX/bin/condor_version" >"$PREFIX/.complete.new" || {
        rm -rf "$PREFIX"
        cannot "HTCondor was unpacked and does not run here"
    }
    mv "$PREFIX/.complete.new" "$PREFIX/.complete"
    say "$(head -1 "$PREFIX/.complete")"
}

# An apt of its own: nothing of SUITE may get into the host's package lists.
download() {
    update_lists
    local mirror keyring
    # shellcheck disable=SC2016
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 'Identifier: Packages' |
        awk '$2 == "Debian" && $3 == "Debian" { print $1; exit }')
    [ -n "$mirror" ] || cannot "apt has no Debian mirror (another distribution?)"
    for keyring in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do [ ! -e "$keyring" ] || break; done
    mkdir -p "$work"/{etc,lists/partial,cache/archives/partial,tree}
    echo "deb [signed-by=$keyring] $mirror $SUITE main" >"$work/etc/sources.list"
    : >"$work/status"
    local options=(
        -qq -o "Dir::Etc::sourcelist=$work/etc/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$work/lists" -o "Dir::State::status=$work/status" -o "Dir::Cache=$work/cache"
        -o APT::Install-Recommends=false -o APT::Sandbox::User=root
    )
    apt-get "${options[@]}" update || cannot "the mirror of this machine has no Debian $SUITE"
    apt-get "${options[@]}" -y -d install condor >/dev/null || cannot "HTCondor of Debian $SUITE cannot be had"
}

unpack() {
    local to=$1 deb
    for deb in "$work"/cache/archives/*.deb; do
        case ${deb##*/} in
            perl* | python3* | libpython* | systemd_* | coreutils* | *-doc_*) continue ;;
        esac
        # Not all packages have all three; tar says so for those that lack one.
        for part in ./usr ./lib ./lib64; do
            dpkg-deb --fsys-tarfile "$deb" |
                tar -x -C "$work/tree" --keep-directory-symlink "$part" 2>/dev/null || true
        done
    done
    local usr=$work/tree/usr
    mkdir -p "$to"/{bin,sbin,libexec,lib/condor,share}
    cp -a "$usr"/bin/{condor_*,blahpd,htcondor} "$to/bin/"
    cp -a "$usr"/sbin/condor_* "$to/sbin/"
    cp -a "$usr"/libexec/{condor,blahp} "$to/libexec/"
    if [ -d "$usr/lib/condor" ]; then cp -a "$usr/lib/condor/." "$to/lib/condor/"; fi
    if [ -d "$usr/share/condor" ]; then cp -a "$usr/share/condor" "$to/share/"; fi
}

is_elf() { [ "$(head -c 4 "$1" | tail -c 3)" = ELF ]; }

# The files whose libraries are needed: the programs, and the libraries that
# are opened by name at run time.
loading_files() {
    find "$1"/{bin,sbin,libexec} -type f
    ls "$libraries"/lib{munge,SciTokens,voms*,krb5*,gssapi_krb5,com_err,ssl,crypto,nss_files,nss_dns,resolv,uuid,curl*}*.so* \
        2>/dev/null || true
}

relocate() {
    local to=$1 file loader library
    libraries=$work/tree/usr/lib/x86_64-linux-gnu
    loader=$(find "$work/tree" -name ld-linux-x86-64.so.2 -type f -print -quit)
    loading_files "$to" | while read -r file; do
        is_elf "$file" || continue
        echo "$file"
        # A static program has no list; the loader's complaint is no news.
        { "$loader" --library-path "$libraries:$work/tree/usr/lib" --list "$file" | cat; } 2>/dev/null |
            awk '$2 == "=>" && $3 ~ /^\// { print $3 }' || true
    done 2>/dev/null | { grep '\.so' || true; } | sort -u >"$work/needed"
    while read -r library; do
        case $library in "$work"/*) cp -L "$library" "$to/lib/" ;; esac
    done <"$work/needed"
    cp -L "$loader" "$to/lib/ld-linux-x86-64.so.2"
    find "$to"/{bin,sbin,libexec} -type f | while read -r file; do
        is_elf "$file" && patchelf --print-rpath "$file" >/dev/null 2>&1 || continue
        if patchelf --print-interpreter "$file" >/dev/null 2>&1; then
            patchelf --set-interpreter "$PREFIX/lib/ld-linux-x86-64.so.2" "$file"
        fi
        patchelf --force-rpath --set-rpath "$PREFIX/lib" "$file"
    done
    for library in "$to"/lib/*.so*; do
        case ${library##*/} in
            ld-linux* | libc.so*) ;;
            *) patchelf --force-rpath --set-rpath "$PREFIX/lib" "$library" ;;
        esac
    done
}

main "$@"
