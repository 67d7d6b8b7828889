#!/usr/bin/env bash
# What `make setup` needs before it can begin. Says everything that is missing at once, and how to install it.
set -euo pipefail

python=${PYTHON:-python3.11}
missing=()
packages=()

need() { # need PROGRAM DEBIAN-PACKAGE
    command -v "$1" >/dev/null || { missing+=("$1"); packages+=("$2"); }
}

need g++ g++
need make make
need cmake cmake
if ! command -v "$python" >/dev/null; then
    missing+=("$python")
    packages+=(python3.11 python3.11-venv python3.11-dev)
elif ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then
    missing+=("Python 3.11 ($python is $("$python" --version))")
    packages+=(python3.11 python3.11-venv python3.11-dev)
else
    "$python" -c 'import ensurepip, venv' 2>/dev/null || { missing+=("the venv module"); packages+=(python3.11-venv); }
    header=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
    [ -f "$header" ] || { missing+=("Python.h"); packages+=(python3.11-dev); }
fi

if [ ${#missing[@]} -gt 0 ]; then
    printf 'Missing:'; printf ' %s,' "${missing[@]}" | sed 's/,$/\n/'
    echo "On Debian 12: apt-get install ${packages[*]}"
    echo "Elsewhere: the same programs from the package manager; Python 3.11 also from pyenv, uv or conda, with" \
        "make setup PYTHON=/path/to/python3.11"
    exit 1
fi >&2
