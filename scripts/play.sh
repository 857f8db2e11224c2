#!/bin/sh
# Watches and plays the agent of this folder, by the folder's own copy of the code: ./scripts/play.sh --help
cd "$(dirname "$0")/.." || exit 1
python=$(cat config/python 2>/dev/null)
[ -x "$python" ] || python=python
PYTHONPATH="$PWD/src" exec "$python" -m irisflow play . "$@"
