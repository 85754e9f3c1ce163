"""`python -m dualstream` is `dualstream`."""

from dualstream.cli import main

if __name__ == "__main__":
    main()
