#!/bin/sh
# Goes on with the run of this folder, exactly, by the folder's own copy of the code.
# What may differ can follow: ./scripts/resume.sh wandb.mode=disabled
cd "$(dirname "$0")/.." || exit 1
python=$(cat config/python 2>/dev/null)
[ -x "$python" ] || python=python
unset PYTHONPATH
exec "$python" src/main.py common.resume=true "$@"
