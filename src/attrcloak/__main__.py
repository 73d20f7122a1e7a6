"""``python -m attrcloak``: the command line."""

from attrcloak.cli import main

if __name__ == "__main__":
    main()
