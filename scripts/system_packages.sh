#!/usr/bin/env bash
# Install Debian packages where this may be done, or say what to do. Never fails: what is missing makes tests skip, saying so.
set -u
missing=()
for package in "$@"; do
  command -v "$package" >/dev/null 2>&1 && continue
  # Debian keeps the programs of PostgreSQL out of the PATH
  [ "$package" = postgresql ] && compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null && continue
  missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if command -v apt-get >/dev/null 2>&1; then
  if [ "$(id -u)" -eq 0 ]; then elevate=""; elif sudo -n true 2>/dev/null; then elevate="sudo -n"; else elevate="no"; fi
  if [ "$elevate" != "no" ]; then
    echo "Installing ${missing[*]} with apt-get ..."
    export DEBIAN_FRONTEND=noninteractive
    if { $elevate apt-get update -qq && $elevate apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null 2>&1; then
      exit 0
    fi
    echo "apt-get could not install ${missing[*]}."
  fi
fi
echo "Tests that need ${missing[*]} will be skipped; install with: sudo apt-get install ${missing[*]} (or your system's equivalent)."
exit 0
