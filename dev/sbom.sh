#!/usr/bin/env bash
# Lists everything that is compiled into the programs, as CycloneDX files in the folder $1: a file for each program.
# Needs cargo-cyclonedx: `cargo install --locked cargo-cyclonedx@0.5.9`.
set -euo pipefail
target=$(mkdir -p "${1:?the folder to write to}" && cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."

name=flowmeter-sbom
trap 'find . -name "$name.json" -not -path "./target/*" -delete' EXIT
for manifest in cli services/*; do
  cargo cyclonedx --quiet --format json --spec-version 1.5 --describe crate --target all --no-build-deps \
    --override-filename "$name" --manifest-path "$manifest/Cargo.toml"
  mv "$manifest/$name.json" "$target/$(basename "$manifest").cdx.json"
done
echo "$(find "$target" -name '*.cdx.json' | wc -l) files in $target"
