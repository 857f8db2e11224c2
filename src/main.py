"""One run by hand, as IRIS users type it: python src/main.py env.train.id=BreakoutNoFrameskip-v4 common.device=cuda:0"""

import sys

from irisflow.launch import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
