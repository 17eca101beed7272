#!/usr/bin/env bash
# Snakemake runs this in the new environment, from the repository: the package itself joins its dependencies.
set -euo pipefail
python -m pip install --no-deps --no-build-isolation --editable .
