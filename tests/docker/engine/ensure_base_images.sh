#!/usr/bin/env bash
# Provide the images that our Dockerfiles and docker-compose.yml name, each only when missing.
#
# They are pulled; where no registry answers, stand-ins are made from Debian's own packages under the same names and
# labelled inferoxy.test.standin=true. What this host needs to reach packages (CA bundle, pip settings, mirror)
# goes into the stand-ins, so the Dockerfiles stay what a user builds from the public registry. A stand-in is made
# anew when this script, standins/ or the host's CA bundle has changed.
# Needs an engine that answers (ensure_engine.sh). Safe to call again and from several processes at once.
# Exit: 0 both are there; 1 it should have worked and did not; 3 not possible on this machine.
#
# INFEROXY_ENGINE_DIR      lock and work folder when root (/var/lib/inferoxy-test-engine)
set -euo pipefail

readonly PYTHON_IMAGE=python:3.11-slim-bookworm
readonly REDIS_IMAGE=redis:7-bookworm
readonly DEBIAN_STANDIN=inferoxy-test-debian:bookworm
readonly STANDIN_LABEL=inferoxy.test.standin
readonly FINGERPRINT_LABEL=inferoxy.test.fingerprint
readonly ENGINE_DIR=${INFEROXY_ENGINE_DIR:-/var/lib/inferoxy-test-engine}
readonly CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt
readonly LOCAL_CA_DIR=/usr/local/share/ca-certificates
readonly REGISTRY_LIMIT_S=15 # until the registry has answered at all
readonly PULL_LIMIT_S=600    # for the whole pull, once it has
readonly LOG_TAIL_LINES=40

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
readonly here
work=

say() { printf 'images: [%3d s] %s\n' "$SECONDS" "$*"; }

impossible() {
    printf 'images: not possible here: %s\n' "$*" >&2
    exit 3
}

# logged LOG COMMAND…: quiet when it works, the end of its output when it does not.
logged() {
    local log=$1
    shift
    if ! "$@" >"$log" 2>&1; then
        say "failed: $* (its last lines follow)" >&2
        tail -n "$LOG_TAIL_LINES" "$log" >&2
        exit 1
    fi
}

# A checksum of all that decides what a stand-in holds.
fingerprint_of_standins() {
    local -a files=("$here/ensure_base_images.sh" "$here"/standins/*/*)
    [[ -r $CA_BUNDLE ]] && files+=("$CA_BUNDLE")
    cat "${files[@]}" | cksum | tr -d ' \n'
}

# A pulled image is always current, a stand-in while its fingerprint is the present one.
is_current() {
    local labels
    local format="{{index .Config.Labels \"$STANDIN_LABEL\"}} {{index .Config.Labels \"$FINGERPRINT_LABEL\"}}"
    labels=$(docker image inspect --format "$format" "$1" 2>/dev/null) || return 1
    [[ $labels != true* || $labels == "true $fingerprint" ]]
}

find_missing() {
    local image
    missing=()
    for image in "$PYTHON_IMAGE" "$REDIS_IMAGE"; do
        is_current "$image" || missing+=("$image")
    done
}

# A registry that has answered may take its time to deliver; one that has not is given up soon.
pulled() {
    local image=$1 log=$work/pull.log pid started=$SECONDS limit_s=$REGISTRY_LIMIT_S
    say "pulling $image"
    docker pull "$image" >"$log" 2>&1 &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        if grep -q 'Pulling from' "$log"; then
            limit_s=$PULL_LIMIT_S
        fi
        if ((SECONDS - started >= limit_s)); then
            kill "$pid" 2>/dev/null || true
            break
        fi
        sleep 0.2
    done
    if wait "$pid"; then
        return 0
    fi
    say "no registry delivered it: $(tail -n 1 "$log")"
    return 1
}

# The mirror this host reads Debian bookworm from; nothing (debootstrap's own default) where it reads none.
debian_mirror() {
    # shellcheck disable=SC2016  # apt-get's own variable
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Codename: bookworm' \
        2>/dev/null | sort -u | sed -n '1s:/$::p'
}

# The host's pip settings that mean something in a container: neither file:// indexes nor folders of this host.
pip_conf() {
    echo '[global]'
    python3 -m pip config list 2>/dev/null | python3 -c '
import ast, sys

NAMES = ("index-url", "extra-index-url", "proxy", "trusted-host", "timeout", "default-timeout", "retries")
settings = {}
for line in sys.stdin:
    key, _, value = line.strip().partition("=")
    settings.setdefault(key.rpartition(".")[2], ast.literal_eval(value))
for name in NAMES:
    words = [word for word in settings.get(name, "").split() if not word.startswith(("file:", "/"))]
    if words:
        print(name, "=", *words)
' || true
}

make_debian_standin() {
    local root mirror
    if is_current "$DEBIAN_STANDIN"; then
        return 0
    fi
    ((EUID == 0)) || impossible "no registry answers, and only root can make stand-ins (this is uid $EUID)"
    command -v apt-get >/dev/null || impossible "no registry answers, and stand-ins are made only on Debian and Ubuntu"
    if ! command -v debootstrap >/dev/null; then
        local -a apt=(apt-get -qq -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
        export DEBIAN_FRONTEND=noninteractive
        say "installing debootstrap"
        "${apt[@]}" update >"$work/apt.log" 2>&1 || say "some package list could not be read; going on without it"
        logged "$work/apt.log" "${apt[@]}" install --no-install-recommends debootstrap debian-archive-keyring
    fi
    root=$work/root
    mirror=$(debian_mirror)
    say "making a minimal Debian with debootstrap"
    logged "$work/debootstrap.log" \
        debootstrap --variant=minbase --include=ca-certificates bookworm "$root" ${mirror:+"$mirror"}
    # Both the bundle and its local parts: what is installed later may make the bundle anew from the parts.
    if [[ -r $CA_BUNDLE ]]; then
        cp -L -- "$CA_BUNDLE" "$root$CA_BUNDLE"
        find "$LOCAL_CA_DIR" -name '*.crt' -exec cp -L -- {} "$root$LOCAL_CA_DIR/" \; 2>/dev/null || true
    fi
    # As in the official images: apt-get keeps neither what it downloaded nor its binary caches.
    cat >"$root/etc/apt/apt.conf.d/docker-clean" <<'CONF'
APT::Update::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
CONF
    rm -rf -- "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*
    say "importing $DEBIAN_STANDIN"
    tar -C "$root" --one-file-system --exclude='./proc/*' --exclude='./sys/*' --exclude='./dev/*' \
        --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' -c . \
        | logged "$work/import.log" docker import \
            --change "LABEL $STANDIN_LABEL=true $FINGERPRINT_LABEL=$fingerprint" \
            --change "ENV LANG=C.UTF-8 SSL_CERT_FILE=$CA_BUNDLE PIP_CERT=$CA_BUNDLE" \
            --change 'CMD ["bash"]' - "$DEBIAN_STANDIN"
    rm -rf --one-file-system -- "$root"
}

make_standin() {
    local image=$1 context=$work/context
    make_debian_standin
    say "making the stand-in for $image"
    cp -r -- "$2" "$context"
    pip_conf >"$context/pip.conf"
    DOCKER_BUILDKIT=0 logged "$work/build.log" \
        docker build --build-arg "DEBIAN=$DEBIAN_STANDIN" --tag "$image" "$context"
    rm -rf -- "$context"
}

fingerprint=$(fingerprint_of_standins)
readonly fingerprint
find_missing
if ((${#missing[@]} == 0)); then
    say "ready, both images exist"
    exit 0
fi
docker info >/dev/null 2>&1 || impossible "no engine answers (run ensure_engine.sh first)"

if ((EUID == 0)); then
    mkdir -p "$ENGINE_DIR"
    exec 9>"$ENGINE_DIR/images.lock"
    flock --timeout 900 9 || impossible "another ensure_base_images.sh has held $ENGINE_DIR/images.lock for 900 s"
    find_missing
    work=$(mktemp -d "$ENGINE_DIR/images.XXXXXX")
else
    work=$(mktemp -d)
fi
# --one-file-system: should debootstrap die with the host's /proc mounted below it, that is not followed.
trap 'rm -rf --one-file-system -- "$work"' EXIT

for image in ${missing[@]+"${missing[@]}"}; do
    case $image in
        "$PYTHON_IMAGE") pulled "$image" || make_standin "$image" "$here/standins/python" ;;
        "$REDIS_IMAGE") pulled "$image" || make_standin "$image" "$here/standins/redis" ;;
    esac
done
say "ready"
