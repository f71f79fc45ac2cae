"""`parley-server` without the protections that UNPROTECTED names: for experiments that must fail."""

from parley_server.__main__ import main
from support.unprotected import of_environment, removed

if __name__ == "__main__":
    with removed(*of_environment()):
        main()
